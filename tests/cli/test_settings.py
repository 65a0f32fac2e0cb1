"""``--set key=value``."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from backproof.cli.settings import parse_setting
from backproof.errors import InputError

READ = {
    "lr=0.5": 0.5,
    "lr=.5": 0.5,
    "lr=-.5e-3": -0.0005,
    "lr=5.": 5.0,
    "lr=1e-3": 0.001,
    "steps=3": 3,
    "x=[1,2,3]": [1, 2, 3],
    "w=[.1,.2,.3]": [0.1, 0.2, 0.3],
    "W=[[.60, .70], [.01, .43],]": [[0.6, 0.7], [0.01, 0.43]],
    'w=["pi/2","pi"]': ["pi/2", "pi"],
    "w=[pi/2, sqrt(2)*(1+pi)]": ["pi/2", "sqrt(2)*(1+pi)"],
    "w=[max(1, 2), 3]": ["max(1, 2)", 3],
    "x=[]": [],
    "reduction=mean": "mean",
    'reduction="mean"': "mean",
    "b=pi/2": "pi/2",
    "y=(y - t)**2 == 0": "(y - t)**2 == 0",
    "nesterov=true": True,
    "nesterov=False": False,
    "day=2020-01-01": "2020-01-01",
    " lr = 2 ": 2,
    "δ=1/3": "1/3",
}


@pytest.mark.parametrize("text", READ)
def test_reads(text: str) -> None:
    key, value = parse_setting(text)
    assert (key, value) == (text.partition("=")[0].strip(), READ[text])
    assert type(value) is type(READ[text])


REFUSED = [
    "x=[1, 2", "x=1, 2]", "x=[1, 2)]", 'x="open', "x={a=1", "x=[[1, 2], [3", "x=(1", "lr", "=1", "3=4", "lr=",
    "lr= ", "x=" + "[" * 100_000, "x=" + "[" * 100 + "]" * 100 + ",", "a b=1", "x=[,]", "x=[1,,2]",
]  # fmt: skip


@pytest.mark.parametrize("text", REFUSED, ids=lambda text: text[:12])
def test_refuses(text: str) -> None:
    with pytest.raises(InputError) as refusal:
        parse_setting(text)
    assert "--set" in str(refusal.value)
    assert len(str(refusal.value)) < 200


@given(st.text(alphabet="=[]{}()\"'.,+-0123456789exa \n_\\π", max_size=40))
@example("x=1\ny=2")
@example("x=" + "9" * 5000)
def test_anything_is_read_or_refused(text: str) -> None:
    try:
        parse_setting("x=" + text)
    except InputError as refusal:
        assert "--set x" in str(refusal)
