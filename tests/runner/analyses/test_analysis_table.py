from __future__ import annotations

from typing import get_args

from runner.analyses import ANALYSES, NOT_BUILT
from specs.language.words import AnalysisVerb


def test_every_verb_is_an_analysis_or_is_said_not_to_be_built():
    assert set(ANALYSES) | set(NOT_BUILT) == set(get_args(AnalysisVerb))
    assert not set(ANALYSES) & set(NOT_BUILT)
