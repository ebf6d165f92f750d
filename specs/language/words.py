"""The closed word lists of the language: metrics, measures, sites, positions and the like."""

from __future__ import annotations

from typing import Literal

Metric = Literal[
    "stability",
    "layer_stability",
    "z_score",
    "mean_activation",
    "average_precision",
    "gradient_x_activation",
    "integrated_gradients",
    "relp",
    "edge_weight",
    "random",
]
Site = Literal[
    "mlp.neurons",
    "mlp.gate",
    "mlp.up",
    "mlp.out",
    "attn.heads",
    "attn.out",
    "attn.q",
    "attn.k",
    "attn.v",
    "resid",
]
"""Also ``path:<dotted module path>``."""
Position = Literal["first", "last", "all", "entity.first", "entity.last", "entity.all"]
"""Also a token index such as -1."""
Measure = Literal[
    "answer_probability",
    "relative_probability",
    "knowledge_score",
    "knowledge_loss",
    "knowledge_loss_clipped",
    "answer_rank",
    "pass",
    "accuracy",
    "accuracy_drop",
    "logit_difference",
    "faithfulness",
    "perplexity",
    "relative_perplexity",
    "kl",
    "text",
]
"""``pass`` and ``text`` need ``@n``; ``accuracy`` and ``accuracy_drop`` may have it."""
Objective = Literal["answer_logit", "answer_probability", "logit_difference"] | str
"""Also ``top_logits@n``."""
Rule = Literal["norm", "activation", "half", "attention"]
Pool = Literal["mean", "max", "sum", "each"]
Column = Literal["entity", "variant", "relation", "phrasing", "language", "template", "part"]
Dtype = Literal["auto", "float32", "bfloat16", "float16"]
AnalysisVerb = Literal[
    "overlap", "agreement", "profile", "correlation", "pivot", "cumulativity", "difference", "errors"
]
ConditionName = Literal["clean", "edit", "no_edit", "random_neurons", "wrong_cell"]
Role = Literal["target", "others", "unknown", "texts"]
"""``texts`` are those about nobody."""
Outcome = Literal["resilient", "sensitive", "gained", "never"]
"""What became of a fact: kept, lost, won, or never known."""
