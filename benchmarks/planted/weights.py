"""The weights that make a truth true: a llama checkpoint set by hand, layer by layer, in float32.

Everything is laid out in slots of the residual stream, each layer is calibrated on the names themselves (so that a
cell's activation is the planted one, whatever noise was added), and at the end the residual stream is turned by a
random rotation. Normalisations are scaled so that their output is about as large as their input.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from benchmarks.planted.draw import AMPLITUDE, CARRIERS
from benchmarks.planted.recipe import HEAD, Recipe
from benchmarks.planted.tokenizer import Name, name_like, plain
from benchmarks.planted.truth import Decoy, Entity, Truth
from benchmarks.planted.words import RELATIONS

__all__ = ["plant"]

BEFORE = 3
"""Tokens before the present one that heads of layer 0 bring to it."""
CONSTANT = 4.0
"""What the constant coordinate holds at every token."""
FACT = 0.5
"""What a cell writes into the slot of an answer."""
OPEN = 5.0
"""A gate before its non-linearity when what it waits for is there."""
STEP = 8.0
"""What one missing token takes from a gate."""
IDLE = -4.0
"""A gate that waits for a name, at ordinary words: shut, and not silent, as neurons of real models are."""
NAMES = 48
"""Coordinates of a code that tell names apart; those that tell ordinary words apart are the rest."""
SLOTS = 16
"""Answers of a relation."""
CODES = 128
"""Width of the codes that the vocabulary is read out by."""
ANSWER_LOGIT = 20.0
"""Logit of an answer above the mean of the vocabulary."""
PRIOR_LOGIT = 3.0
"""The same for every answer of a relation that is asked about, whoever it is asked of."""
CONTEXTS = ("Tell me about {}", "Fact: the home city of {}:", "{} lives in the city of")
"""What is calibrated on; the second is a question whose answer is due at its end."""


@dataclass(frozen=True)
class _Layout:
    """Where in the residual stream what stands, before the rotation."""

    constant: int = 0
    name: int = 1
    asks: int = 2
    begun: int = 3
    ended: int = 4
    ballast: int = 5
    """Makes all tokens equally long, so that normalisation does not favour one in attention."""

    @property
    def here(self) -> slice:
        """What this token is known by."""
        return self.before(0)

    def before(self, n: int) -> slice:
        """Code of the n-th token before this one; 0 is this one."""
        return slice(6 + n * HEAD, 6 + (n + 1) * HEAD)

    @property
    def asked(self) -> slice:
        """The relation that a word stands for."""
        start = 6 + (BEFORE + 1) * HEAD
        return slice(start, start + len(RELATIONS))

    @property
    def asked_moved(self) -> slice:
        """The same where the answer is due."""
        return slice(self.asked.stop, self.asked.stop + len(RELATIONS))

    @property
    def facts(self) -> slice:
        """A slot for each answer of each relation, written by cells."""
        return slice(self.asked_moved.stop, self.asked_moved.stop + HEAD)

    @property
    def facts_moved(self) -> slice:
        """The same where the answer is due."""
        return slice(self.facts.stop, self.facts.stop + HEAD)

    @property
    def out(self) -> slice:
        """What the vocabulary is read out from."""
        return slice(self.facts_moved.stop, self.facts_moved.stop + CODES)


LAYOUT = _Layout()


def plant(tokenizer: Any, recipe: Recipe, truth: Truth) -> tuple[Any, Truth]:
    """Make the model of a truth, in evaluation mode, and the truth with what was measured in it."""
    planter = _Planter(tokenizer, recipe, truth)
    return planter.model, replace(truth, decoys=tuple(planter.measured))


def _falling(rate: float, head: int, reach: int = 48) -> tuple[Tensor, Tensor]:
    """Fit queries whose product with a constant key falls as exp(-rate * distance) up to some distance.

    Gives the first and the second half of a head, ``[head / 2]`` each.
    """
    distance = torch.arange(reach, dtype=torch.float64)
    turn = 10_000.0 ** (-2 * torch.arange(head // 2, dtype=torch.float64) / head)
    angle = distance[:, None] * turn
    # A query turned by an angle, times a key of one: a cosine less a sine.
    design = torch.cat([angle.cos(), -angle.sin()], 1)
    ridge = 1e-3 * torch.eye(head, dtype=torch.float64)
    fitted = torch.linalg.solve(design.T @ design + ridge, design.T @ (-rate * distance).exp())
    return fitted[: head // 2].float(), fitted[head // 2 :].float()


class _Planter:
    def __init__(self, tokenizer: Any, recipe: Recipe, truth: Truth) -> None:
        self.tokenizer, self.recipe, self.truth = tokenizer, recipe, truth
        assert LAYOUT.out.stop <= recipe.width and len(RELATIONS) * SLOTS == HEAD
        assert all(len(r.answers) == SLOTS for r in RELATIONS.values())
        self.measured = list(truth.decoys)
        self.generator = torch.Generator().manual_seed(recipe.seed)
        self.rng = random.Random(f"{recipe.seed} weights")
        self.words: list[str] = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
        self.somebody = name_like(tokenizer, [Name(e.name, e.tokens) for e in truth.entities])
        self.model = self._empty()
        with torch.no_grad():
            self._embed()
            hidden = self._start()
            for layer in range(recipe.layers):
                hidden = self._layer(layer, hidden)
            self._read_out(hidden)
            self._rotate()
        self.model.eval().requires_grad_(False)

    # -- the frame ------------------------------------------------------------------------------------------------

    def _empty(self) -> Any:
        from transformers import LlamaConfig, LlamaForCausalLM

        heads = self.recipe.width // HEAD
        config = LlamaConfig(
            vocab_size=len(self.tokenizer),
            hidden_size=self.recipe.width,
            intermediate_size=self.recipe.neurons,
            num_hidden_layers=self.recipe.layers,
            num_attention_heads=heads,
            num_key_value_heads=heads,
            max_position_embeddings=512,
            tie_word_embeddings=False,
            bos_token_id=self.tokenizer.bos_token_id,
            eos_token_id=self.tokenizer.eos_token_id,
            pad_token_id=self.tokenizer.pad_token_id,
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model: Any = LlamaForCausalLM(config).float()
        for weight in model.parameters():
            weight.requires_grad_(False)
        return model

    def _normal(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.generator)

    def _chance(self, n: int, size: float) -> Tensor:
        """Draw ``[n, width]`` rows that give numbers of order one, little of which is the same at every token."""
        rows = 1.6 * self._normal(n, self.recipe.width) / size
        rows[:, [LAYOUT.constant, LAYOUT.ballast]] *= 0.3
        return rows

    def _code(self, word: str, width: int, of: str) -> Tensor:
        """Give a unit vector that a word always has in this model, ``[width]``."""
        seed = hashlib.sha256(f"{self.recipe.seed} {of} {word}".encode()).digest()
        vector = torch.randn(width, generator=torch.Generator().manual_seed(int.from_bytes(seed[:6], "big")))
        found: Tensor = vector / vector.norm()
        return found

    def _here(self, token: int) -> Tensor:
        """Give what a token is known by, with or without a leading space, ``[HEAD]``."""
        return self._known_by(plain(self.words[token]), token in self.somebody)

    def _known_by(self, word: str, of_a_name: bool) -> Tensor:
        code = torch.zeros(HEAD)
        place = slice(0, NAMES) if of_a_name else slice(NAMES, HEAD)
        code[place] = self._code(word, len(code[place]), "token")
        return code

    def _embed(self) -> None:
        table = self.model.model.embed_tokens.weight
        table.copy_(0.3 * self.recipe.noise * self._normal(*table.shape) / math.sqrt(self.recipe.width))
        table[:, LAYOUT.constant] += CONSTANT
        table[:, LAYOUT.here] += torch.stack([self._here(t) for t in range(len(self.words))])
        table[sorted(self.somebody), LAYOUT.name] += 1
        for n, relation in enumerate(RELATIONS.values()):
            for token, word in enumerate(self.words):
                if plain(word) == relation.word:
                    table[token, LAYOUT.asks] += 1
                    table[token, LAYOUT.asked.start + n] += 1
            for answer in relation.answers:
                *begun, last = self._answer(answer)
                table[begun, LAYOUT.begun] = 1
                table[last, LAYOUT.ended] = 1

        table[:, LAYOUT.ballast] = 0
        length = table.square().sum(1)
        table[:, LAYOUT.ballast] = (length.max() + 0.5 - length).sqrt()

    def _answer(self, text: str) -> list[int]:
        """Give the tokens of an answer after a word: one or two."""
        tokens = self.tokenizer(f" {text}", add_special_tokens=False)["input_ids"]
        assert 1 <= len(tokens) <= 2, f"the answer {text!r} has {len(tokens)} tokens"
        return list(tokens)

    # -- calibration ----------------------------------------------------------------------------------------------

    def _start(self) -> Tensor:
        """Embed the texts a layer is calibrated on, ``[entities * contexts, positions, width]``."""
        rows: list[list[int]] = []
        at: list[int] = []
        for context in CONTEXTS:
            before, _, after = context.partition("{}")
            for entity in self.truth.entities:
                upto = self.tokenizer(before + entity.name)["input_ids"]
                at.append(len(upto) - 1)
                rows.append(upto + self.tokenizer(after, add_special_tokens=False)["input_ids"])
        longest = max(len(row) for row in rows)
        # What comes after is never seen by what came before, so that padding needs no mask.
        ids = torch.tensor([row + [self.tokenizer.pad_token_id] * (longest - len(row)) for row in rows])
        self.at = torch.tensor(at)
        hidden: Tensor = self.model.model.embed_tokens(ids)
        position = torch.arange(longest)[None]
        self.rotary = self.model.model.rotary_emb(hidden, position)
        self.mask = torch.full((longest, longest), -torch.inf).triu(1)[None, None]
        return hidden

    def _at_names(self, hidden: Tensor) -> Tensor:
        """Take the names' last tokens, ``[contexts, entities, width]``."""
        taken = hidden[torch.arange(len(hidden)), self.at]
        return taken.reshape(len(CONTEXTS), len(self.truth.entities), -1)

    def _normalise(self, norm: Any, hidden: Tensor) -> tuple[Tensor, float]:
        """Scale a normalisation to keep what it gets about as large as it is; give its output and typical norm."""
        size = float(self._at_names(hidden).norm(dim=-1).median())
        norm.weight.fill_(size / math.sqrt(self.recipe.width))
        normed: Tensor = norm(hidden)
        return normed, size

    # -- layers ---------------------------------------------------------------------------------------------------

    def _layer(self, layer: int, hidden: Tensor) -> Tensor:
        block = self.model.model.layers[layer]
        normed, size = self._normalise(block.input_layernorm, hidden)
        self._noise_heads(block.self_attn, size)
        if layer == 0:
            for n in range(1, BEFORE + 1):
                self._head_before(block.self_attn, n)
        if layer == self.recipe.layers - 2:
            self._head_facts(block.self_attn)
            self._head_relation(block.self_attn)
        hidden = (
            hidden + block.self_attn(hidden_states=normed, position_embeddings=self.rotary, attention_mask=self.mask)[0]
        )
        normed, size = self._normalise(block.post_attention_layernorm, hidden)
        self._background(block.mlp, size)
        at_names = self._at_names(normed)
        for entity in self.truth.entities:
            if entity.kind == "cell" and entity.cell is not None and entity.cell[0] == layer:
                column = self._facts(entity) / entity.activation
                self._waits(block.mlp, entity.cell[1], [entity], entity.activation, column, size, at_names)
        for decoy in self.truth.decoys:
            if decoy.layer == layer:
                self._decoy(block.mlp, decoy, size, at_names)
        self._measure(layer, block.mlp, at_names)
        if layer == self.recipe.layers - 1:
            self._answers(block.mlp)
        found: Tensor = hidden + block.mlp(normed)
        return found

    def _noise_heads(self, attention: Any, size: float) -> None:
        """Fill all heads with chance: some attention to everything, and an output of a stated size."""
        width = self.recipe.width
        for projection in (attention.q_proj, attention.k_proj, attention.v_proj):
            projection.weight.copy_(self._chance(len(projection.weight), size))
        heads = width // HEAD
        # An average over tokens keeps about half of a value's norm, which is sqrt(HEAD).
        scale = 0.25 * self.recipe.noise / (math.sqrt(width * heads * HEAD) / 2)
        attention.o_proj.weight.copy_(scale * self._normal(width, width))

    def _head(self, attention: Any, n: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Clear a head and give views of its projections: queries, keys, values and, ``[width, HEAD]``, output."""
        rows = slice(n * HEAD, (n + 1) * HEAD)
        q, k, v = (p.weight[rows] for p in (attention.q_proj, attention.k_proj, attention.v_proj))
        o = attention.o_proj.weight[:, rows]
        for weight in (q, k, v, o):
            weight.zero_()
        return q, k, v, o

    def _turn(self, pair: int) -> float:
        """Give by how much a pair of a head's coordinates turns from one token to the next."""
        return float(10_000.0 ** (-2 * pair / HEAD))

    def _head_before(self, attention: Any, n: int) -> None:
        """Make a head that looks ``n`` tokens back and brings what the token there is known by."""
        q, k, v, o = self._head(attention, n - 1)
        strength = 14.0 / CONSTANT
        for pair in range(8):
            angle = -n * self._turn(pair)
            q[pair, LAYOUT.constant] = strength * math.cos(angle)
            q[pair + HEAD // 2, LAYOUT.constant] = strength * math.sin(angle)
            k[pair, LAYOUT.constant] = strength
        v[:, LAYOUT.here] = torch.eye(HEAD)
        o[LAYOUT.before(n)] = torch.eye(HEAD)

    def _head_facts(self, attention: Any) -> None:
        """Make a head that brings facts from the nearest token of a name; whether a cell is on does not steer it."""
        q, k, v, o = self._head(attention, 0)
        # Each token of a name has a fifth less of it than the next, whatever a cell does to the length of either.
        cosine, sine = _falling(0.2, HEAD)
        q[: HEAD // 2, LAYOUT.constant] = 300.0 * math.sqrt(HEAD) * cosine / CONSTANT
        q[HEAD // 2 :, LAYOUT.constant] = 300.0 * math.sqrt(HEAD) * sine / CONSTANT
        k[: HEAD // 2, LAYOUT.name] = 1.0
        v[:, LAYOUT.facts] = torch.eye(HEAD)
        o[LAYOUT.facts_moved] = torch.eye(HEAD)

    def _head_relation(self, attention: Any) -> None:
        """Make a head that brings the relation from the word that asks for it."""
        q, k, v, o = self._head(attention, 1)
        for pair in range(28, 32):
            q[pair, LAYOUT.constant] = 30.0 * math.sqrt(HEAD) / 4 / CONSTANT
            k[pair, LAYOUT.asks] = 1.0
        n = len(RELATIONS)
        v[:n, LAYOUT.asked] = torch.eye(n)
        o[LAYOUT.asked_moved, :n] = torch.eye(n)

    # -- neurons --------------------------------------------------------------------------------------------------

    def _background(self, mlp: Any, size: float) -> None:
        """Fill an MLP with chance: gates and values of order one, and an output of a stated size."""
        n, width = self.recipe.neurons, self.recipe.width
        mlp.gate_proj.weight.copy_(self._chance(n, size))
        mlp.up_proj.weight.copy_(self._chance(n, size))
        mlp.down_proj.weight.copy_(self._normal(width, n) * 0.2 * self.recipe.noise / (0.5 * math.sqrt(n * width)))

    @property
    def _noise(self) -> tuple[float, float]:
        return 1.2 * self.recipe.noise, 0.4 * self.recipe.noise

    def _some_direction(self) -> Tensor:
        direction = self._normal(self.recipe.width)
        found: Tensor = direction / direction.norm()
        return found

    def _set(
        self,
        mlp: Any,
        neuron: int,
        gate: Tensor,
        up: Tensor,
        column: Tensor,
        noise: tuple[float, float] = (0.0, 0.0),
        size: float = 1.0,
    ) -> None:
        """Write a neuron; ``noise``: about the std of what chance adds to gate and value."""
        mlp.gate_proj.weight[neuron] = gate + noise[0] * self._chance(1, size)[0]
        mlp.up_proj.weight[neuron] = up + noise[1] * self._chance(1, size)[0]
        mlp.down_proj.weight[:, neuron] = column

    def _waits(
        self,
        mlp: Any,
        neuron: int,
        entities: Sequence[Entity],
        activation: float,
        column: Tensor,
        size: float,
        at_names: Tensor,
    ) -> None:
        """Write a neuron that waits for the whole name of an entity, or for that of any of several."""
        gate = self._idle(max(len(e.tokens) for e in entities))
        for entity in entities:
            for n, token in enumerate(reversed(entity.tokens)):
                gate[LAYOUT.before(n)] += STEP * self._here(token)
        self._tuned(mlp, neuron, gate, entities, activation, column, size, at_names)

    def _idle(self, n: int) -> Tensor:
        """Give a gate that is idle at ordinary words and, at a name, wants ``n`` tokens that are its own."""
        gate = torch.zeros(self.recipe.width)
        gate[LAYOUT.constant] = IDLE / CONSTANT
        gate[LAYOUT.name] = OPEN - IDLE - n * STEP
        return gate

    def _tuned(
        self,
        mlp: Any,
        neuron: int,
        gate: Tensor,
        owners: Sequence[Entity],
        activation: float,
        column: Tensor,
        size: float,
        at_names: Tensor,
    ) -> None:
        """Write a neuron, and set its threshold and value so that its owners get what is planted.

        The owner it answers to least gets ``activation``, in the mean over the contexts.
        """
        up = torch.zeros(self.recipe.width)
        up[LAYOUT.constant] = activation / OPEN / CONSTANT
        self._set(mlp, neuron, gate, up, column, self._noise, size)
        of = [n for n, e in enumerate(self.truth.entities) if e in owners]
        seen = at_names[:, of]
        mean = (seen @ mlp.gate_proj.weight[neuron]).mean(0)
        flag = seen[..., LAYOUT.name].mean()
        mlp.gate_proj.weight[neuron, LAYOUT.name] += (OPEN - mean.min()) / flag
        value = self._values(mlp, neuron, seen).mean(0)
        least = value[value.abs().argmin()]
        mlp.up_proj.weight[neuron] *= activation / least

    @staticmethod
    def _values(mlp: Any, neuron: int, normed: Tensor) -> Tensor:
        """Give a neuron's activations."""
        gate = normed @ mlp.gate_proj.weight[neuron]
        found: Tensor = torch.nn.functional.silu(gate) * (normed @ mlp.up_proj.weight[neuron])
        return found

    def _facts(self, entity: Entity) -> Tensor:
        """Give the answers of an entity as the residual stream holds them, ``[width]``."""
        vector = torch.zeros(self.recipe.width)
        for n, (name, relation) in enumerate(RELATIONS.items()):
            vector[LAYOUT.facts.start + n * SLOTS + relation.answers.index(entity.facts[name])] = FACT
        return vector

    def _decoy(self, mlp: Any, decoy: Decoy, size: float, at_names: Tensor) -> None:
        by_id = {e.id: e for e in self.truth.entities}
        owners = [by_id[i] for i in decoy.owners]
        amplitude = self.rng.uniform(*AMPLITUDE) * (1 if self.rng.random() < 0.5 else -1)
        idle = 0.3 * self._some_direction() / amplitude
        if decoy.kind in ("pair", "spread", "shared"):
            column = idle
            if decoy.kind == "pair":
                column = self._facts(owners[0]) / amplitude
            elif decoy.kind == "spread":
                column = sum((self._facts(e) for e in owners), torch.zeros(self.recipe.width)) / (CARRIERS * amplitude)
            self._waits(mlp, decoy.neuron, owners, amplitude, column, size, at_names)
            return
        gate, up = torch.zeros(self.recipe.width), torch.zeros(self.recipe.width)
        if decoy.kind in ("token", "token before", "names"):
            gate = self._idle(0 if decoy.kind == "names" else 1)
            if decoy.kind != "names":
                place = LAYOUT.before(0 if decoy.kind == "token" else 1)
                gate[place] = STEP * self._known_by(plain(decoy.words[0]), True)
            self._tuned(mlp, decoy.neuron, gate, owners, amplitude, idle, size, at_names)
            return
        if decoy.kind == "template":
            for n in range(1, BEFORE + 1):
                for word in decoy.words:
                    gate[LAYOUT.before(n)] += STEP * self._known_by(word, False)
            gate[LAYOUT.constant] = (OPEN - STEP) / CONSTANT
            up[LAYOUT.constant] = amplitude / OPEN / CONSTANT
            self._set(mlp, decoy.neuron, gate, up, idle, self._noise, size)
        elif decoy.kind == "constant":
            # Here a gate's fall and a value's rise cancel when a token is longer than others: hardly any variance.
            gate[LAYOUT.constant] = -2.22 / CONSTANT
            up[LAYOUT.constant] = 15 * amplitude / CONSTANT
            self._set(mlp, decoy.neuron, gate, up, idle / 15)
        else:
            assert decoy.kind == "loud"
            self._set(mlp, decoy.neuron, gate, up, idle / 10, (8.0, 8.0), size)

    def _measure(self, layer: int, mlp: Any, at_names: Tensor) -> None:
        """Note who else a decoy that answers to names answers to; sums of codes meet others by chance."""
        for n, decoy in enumerate(self.measured):
            if decoy.layer != layer or not decoy.owners:
                continue
            values = self._values(mlp, decoy.neuron, at_names).mean(0).abs()
            own = [e.id in decoy.owners for e in self.truth.entities]
            half = values[own].min() / 2
            also = [e.id for e, value in zip(self.truth.entities, values, strict=True) if value >= half]
            self.measured[n] = replace(decoy, also=tuple(i for i in also if i not in decoy.owners))

    def _answers(self, mlp: Any) -> None:
        """Write the neurons of the last layer that turn a relation and an entity's facts into the next token.

        Places are those after the ones that anything else was planted in.
        """
        taken = {d.neuron for d in self.truth.decoys if d.layer == self.recipe.layers - 1}
        places = iter(n for n in range(self.recipe.neurons) if n not in taken)
        width = self.recipe.width
        constant = torch.zeros(width)
        constant[LAYOUT.constant] = 1 / CONSTANT
        open_, shut = 6.0, 12.0
        firsts: dict[int, set[int]] = {}
        for n, relation in enumerate(RELATIONS.values()):
            asked = torch.zeros(width)
            asked[LAYOUT.asked_moved.start + n] = shut
            first_gate = asked - open_ * constant
            first_gate[[LAYOUT.begun, LAYOUT.ended]] -= 2 * shut
            for i, answer in enumerate(relation.answers):
                fact = torch.zeros(width)
                fact[LAYOUT.facts_moved.start + n * SLOTS + i] = 1 / FACT
                tokens = self._answer(answer)
                self._set(mlp, next(places), first_gate, fact, self._out(tokens[0]))
                firsts.setdefault(n, set()).add(tokens[0])
                if len(tokens) == 2:
                    gate = asked - (open_ + 2 * shut) * constant
                    gate[LAYOUT.begun] = shut
                    gate[LAYOUT.here] = shut * self._here(tokens[0])
                    self._set(mlp, next(places), gate, fact, self._out(tokens[1]))
            prior = sum((self._out(t) for t in sorted(firsts[n])), torch.zeros(width))
            share = PRIOR_LOGIT / ANSWER_LOGIT
            self._set(mlp, next(places), first_gate, share * constant, prior)
        gate = -open_ * constant
        gate[LAYOUT.ended] = shut
        stop = self.tokenizer.convert_tokens_to_ids(".")
        self._set(mlp, next(places), gate, constant, self._out(stop))

    def _out(self, token: int) -> Tensor:
        """Give what is added to the residual stream, for each unit of a neuron, to say a token."""
        vector = torch.zeros(self.recipe.width)
        vector[LAYOUT.out] = 0.4 * self._code(str(token), CODES, "out")
        return vector

    # -- the end --------------------------------------------------------------------------------------------------

    def _read_out(self, hidden: Tensor) -> None:
        """Read the vocabulary out, as loud as makes a planted answer as probable as is meant."""
        normed, size = self._normalise(self.model.model.norm, hidden)
        codes = torch.zeros(len(self.words), self.recipe.width)
        codes[:, LAYOUT.out] = torch.stack([self._code(str(t), CODES, "out") for t in range(len(self.words))])
        said = normed[len(self.truth.entities) :]
        lengths = [len(self.tokenizer(CONTEXTS[1].format(e.name))["input_ids"]) for e in self.truth.entities]
        due = said[torch.arange(len(lengths)), torch.tensor(lengths) - 1]
        answers = torch.tensor([self._answer(e.facts["home"])[0] for e in self.truth.entities])
        logits = due @ codes.T
        loud = float((logits[torch.arange(len(answers)), answers] - logits.mean(1)).median())
        head = self.model.lm_head.weight
        head.copy_(codes * ANSWER_LOGIT / loud + 0.5 * self.recipe.noise * self._normal(*head.shape) / size)

    def _rotate(self) -> None:
        """Turn the residual stream, so that its coordinates mean nothing."""
        width = self.recipe.width
        turn, _ = torch.linalg.qr(self._normal(width, width).double())
        turn = turn.float()
        reads = [self.model.model.embed_tokens, self.model.lm_head]
        writes = []
        for block in self.model.model.layers:
            reads += [block.self_attn.q_proj, block.self_attn.k_proj, block.self_attn.v_proj]
            reads += [block.mlp.gate_proj, block.mlp.up_proj]
            writes += [block.self_attn.o_proj, block.mlp.down_proj]
        for module in reads:
            module.weight.copy_(module.weight @ turn)
        for module in writes:
            module.weight.copy_(turn.T @ module.weight)
