"""Where an experiment looks and acts: rankings of neurons and sets of neurons."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Discriminator,
    Field,
    Tag,
    model_validator,
)

from specs.language.block import (
    Block,
    Conditions,
    NameOrTexts,
    SomeTexts,
    belongs,
    exactly_one,
    given,
)
from specs.language.fields import (
    TAG,
    Layers,
    MetricWord,
    ObjectiveText,
    Positions,
    RankText,
    Sites,
    shape,
)
from specs.language.scalars import (
    Number,
    Text,
    Texts,
    Whole,
    one_or_many,
    refuse,
    some,
    word,
)
from specs.language.words import Pool, Rule


class Each(Block):
    """``{each: [...]}``: a list of places that is a sweep."""

    noun = "a sweep of places"

    each: Annotated[list[Any], BeforeValidator(one_or_many), AfterValidator(some)] = Field(
        description="One condition for each of these places."
    )


class EachLayer(Each):
    """A sweep of layers; a range such as 0-27 is one condition for each of its layers."""

    each: Layers = Field(description="One condition for each of these layers.")


class EachPosition(Each):
    """A sweep of positions."""

    each: Positions = Field(description="One condition for each of these positions.")


LayersOrEach = Annotated[
    Annotated[Layers, Tag(TAG + "scalar")]
    | Annotated[Layers, Tag(TAG + "list")]
    | Annotated[EachLayer, Tag(TAG + "block")],
    Discriminator(shape),
]
PositionsOrEach = Annotated[
    Annotated[Positions, Tag(TAG + "scalar")]
    | Annotated[Positions, Tag(TAG + "list")]
    | Annotated[EachPosition, Tag(TAG + "block")],
    Discriminator(shape),
]


def _set_or_each(value: Any) -> str:
    if isinstance(value, Each) or (isinstance(value, dict) and "each" in value):
        return TAG + "each"
    return shape(value)


def _one_or_list(value: Any) -> str:
    return TAG + "list" if isinstance(value, (list, tuple)) else TAG + "scalar"


Cut = Annotated[Whole, Field(ge=1)]
Cuts = Annotated[
    Annotated[Cut, Tag(TAG + "scalar")] | Annotated[list[Cut], AfterValidator(some), Tag(TAG + "list")],
    Discriminator(_one_or_list),
]
Share = Annotated[Number, Field(gt=0)]
Shares = Annotated[
    Annotated[Share, Tag(TAG + "scalar")] | Annotated[list[Share], AfterValidator(some), Tag(TAG + "list")],
    Discriminator(_one_or_list),
]
Mass = Annotated[Number, Field(gt=0, le=1)]
Masses = Annotated[
    Annotated[Mass, Tag(TAG + "scalar")] | Annotated[list[Mass], AfterValidator(some), Tag(TAG + "list")],
    Discriminator(_one_or_list),
]
Ranks = Annotated[
    Annotated[RankText, Tag(TAG + "scalar")] | Annotated[list[RankText], AfterValidator(some), Tag(TAG + "list")],
    Discriminator(_one_or_list),
]

CUTS = ("top", "bottom", "rank", "threshold", "mass")


class NeuronSet(Block):
    """Neurons other than a plain reference or a list: cut, filter, algebra, random, layers, file."""

    noun = "a neuron set"

    of: Text | None = Field(default=None, description="The ranking or set to take from.")
    top: Cuts | None = Field(default=None, description="The best n.")
    bottom: Cuts | None = Field(default=None, description="The last n.")
    rank: Ranks | None = Field(default=None, description="One rank, or a slice such as 11-50.")
    threshold: Shares | None = Field(default=None, description="At least this share of the objective.")
    mass: Masses | None = Field(default=None, description="The fewest with this share of the total.")
    where: Conditions = Field(default_factory=list, description="Keep neurons that meet all of these.")
    minus: NameOrTexts | None = Field(default=None, description="Without the neurons of these.")
    common: NameOrTexts | None = Field(default=None, description="Only neurons that these have too.")
    random: Cut | None = Field(default=None, description="So many drawn at random.")
    like: Text | None = Field(default=None, description="Same layers and sites as this set.")
    site: Sites | None = Field(default=None, description="Whole layers of this site.")
    layers: LayersOrEach | None = Field(default=None, description="Which layers.")
    from_: Text | None = Field(default=None, alias="from", description="A saved set.")

    @model_validator(mode="after")
    def _is_one_kind(self) -> NeuronSet:
        if self.layers is not None and self.site is None and not given(self, ("of", "random", "from_")):
            refuse("whole layers need `site:`, such as mlp.neurons", at="layers")
        if self.random is not None and self.like is None:
            refuse(
                f"`random: {self.random}` needs `like:`, the set whose layers and sites it copies",
                at="random",
            )
        cuts = given(self, CUTS)
        if len(cuts) > 1:
            refuse(f"a neuron set has one cut; this has {' and '.join(cuts)}", at=cuts[-1])
        of_needed = [*cuts, *(["where"] if self.where else []), *given(self, ("minus", "common"))]
        if of_needed and self.of is None:
            refuse(f"`{of_needed[0]}` needs `of:`, the ranking or set it takes from", at=of_needed[0])
        exactly_one(self, ("of", "random", "site", "from_"), "a neuron set has exactly one of")
        if self.like is not None and self.random is None:
            refuse("`like` belongs to `random`: so many neurons in the layers and sites of that set", at="like")
        if self.layers is not None and self.site is None:
            refuse("`layers` belongs to `site`: whole layers of that site", at="layers")
        return self


RefOrSet = Annotated[
    Annotated[Text, Tag(TAG + "scalar")]
    | Annotated[NeuronSet, Tag(TAG + "block")]
    | Annotated[Text, Tag(TAG + "list")],
    Discriminator(shape),
]
"""A reference or address, or a set."""


class EachNeurons(Each):
    """A sweep of neuron sets."""

    each: Annotated[list[RefOrSet], BeforeValidator(one_or_many), AfterValidator(some)] = Field(
        description="One condition for each of these sets."
    )


NeuronsRef = Annotated[
    Annotated[Text, Tag(TAG + "scalar")]
    | Annotated[NeuronSet, Tag(TAG + "block")]
    | Annotated[list[RefOrSet], AfterValidator(some), Tag(TAG + "list")]
    | Annotated[EachNeurons, Tag(TAG + "each")],
    Discriminator(_set_or_each),
]
"""A reference or address, a set, a union of them, or a sweep."""


class Negatives(Block):
    """Negatives drawn from the others: ``{others: 4}``."""

    noun = "a choice of negatives"

    others: Whole = Field(ge=1, description="How many negatives for each positive.")


class RankingControls(Block):
    """Rankings that should find nothing; `none` is the default."""

    noun = "controls"
    words: ClassVar = {"none": {}}

    shuffled_labels: Whole = Field(default=0, ge=0, description="Rankings with shuffled labels.")
    random_names: Whole = Field(default=0, ge=0, description="Rankings for invented names.")


GRADIENT_METRICS = ("gradient_x_activation", "integrated_gradients", "relp")
OBJECTIVE_WORDS = "answer_logit, answer_probability, logit_difference, top_logits"


class Localize(Block):
    """A ranking of neurons for each entity (or relation, concept, ...); a scalar is the metric."""

    main = "metric"
    noun = "a ranking"

    metric: MetricWord = Field(description="What makes a neuron rank high.")
    prompts: Text | None = Field(default=None, description="The prompts it is read on.")
    by: Texts | None = Field(default=None, description="One ranking for each of these; [] is one over all.")
    against: (
        Annotated[
            Annotated[Text, Tag(TAG + "scalar")]
            | Annotated[SomeTexts, Tag(TAG + "list")]
            | Annotated[Negatives, Tag(TAG + "block")],
            Discriminator(shape),
        ]
        | None
    ) = Field(default=None, description="Baseline or negatives: prompts, names, others, or {others: ratio}.")
    site: Sites | None = Field(default=None, description="Where neurons are read.")
    layers: Layers | None = Field(default=None, description="Which layers; all if absent.")
    position: Positions | None = Field(default=None, description="Which token.")
    pool: Annotated[Pool, word("way to pool", Pool)] | None = Field(
        default=None, description="How several positions become one number."
    )
    among: NeuronsRef | None = Field(default=None, description="Candidates; all of the site if absent.")
    top: Cut | None = Field(default=None, description="The set the name stands for: the best n.")
    threshold: Share | None = Field(default=None, description="... or those with this share of the objective.")
    mass: Mass | None = Field(default=None, description="... or the fewest with this total share.")
    objective: ObjectiveText | None = Field(default=None, description="The number whose gradient is taken.")
    minus: Annotated[Literal["patch"], word("subtrahend", Literal["patch"])] | None = Field(
        default=None, description="Subtract the patch twin."
    )
    rules: Annotated[list[Annotated[Rule, word("rule", Rule)]], BeforeValidator(one_or_many)] | None = Field(
        default=None, description="RelP rules."
    )
    steps: Cut | None = Field(default=None, description="Steps of integrated gradients.")
    std_floor: Annotated[Number, Field(ge=0)] | None = Field(
        default=None, description="Least std, in baseline stds (0.1)."
    )
    min_prompts: Whole | None = Field(
        default=None, description="Fewer prompts are refused (8).", json_schema_extra={"minimum": 8}
    )
    controls: RankingControls | None = Field(default=None, description="Rankings that should find nothing.")

    @model_validator(mode="after")
    def _fits_its_metric(self) -> Localize:
        metric = self.metric
        cuts = given(self, ("top", "threshold", "mass"))
        if len(cuts) > 1:
            refuse(f"a ranking has one cut; this has {' and '.join(cuts)}", at=cuts[-1])
        belongs(
            self,
            "metric",
            metric,
            {
                "rules": ("relp",),
                "steps": ("integrated_gradients",),
                "objective": GRADIENT_METRICS,
                "minus": GRADIENT_METRICS,
                "std_floor": ("stability",),
                "min_prompts": ("stability",),
            },
        )
        if self.min_prompts is not None and self.min_prompts < 8:
            refuse(
                "stability over fewer than 8 prompts picks near-constant neurons; the least is 8",
                at="min_prompts",
            )
        if metric in GRADIENT_METRICS and self.objective is None:
            refuse(f"{metric} needs `objective:`, the number it takes the gradient of ({OBJECTIVE_WORDS})")
        if metric == "average_precision" and not cuts:
            refuse("average_precision needs `top:`, the number of neurons that make the set (the paper takes 3000)")
        if metric == "edge_weight" and self.among is None:
            refuse("edge_weight needs `among:`, the neurons whose pairs it scores")
        return self
