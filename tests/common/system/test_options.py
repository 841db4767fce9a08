from dataclasses import dataclass, field
from typing import Annotated

import pytest
import tyro

from common.system.options import grouped, parse


def told(capsys, monkeypatch, options, **more):
    monkeypatch.setattr("sys.argv", ["x", "--help"])
    with pytest.raises(SystemExit, match="0"):
        parse(options, prog="x", description="What it does.", **more)
    return " ".join(capsys.readouterr().out.replace("│", " ").split())


def test_help_names_what_applies(capsys, monkeypatch):
    @dataclass(frozen=True)
    class Inner:
        seed: int | None = None
        """Seed of everything."""

    @dataclass(frozen=True)
    class Base:
        epochs: Annotated[int | None, tyro.conf.arg(aliases=["--epoch"])] = None
        """Passes over the images."""

    @dataclass(frozen=True)
    class Command(Base):
        out: str | None = None
        """Another folder."""
        runs: tyro.conf.Positional[tuple[str, ...]] = ()
        """Folders."""
        lr: float = 0.5
        """Learning rate."""
        inner: Inner = field(default_factory=Inner)
        """More."""

    found = told(capsys, monkeypatch, Command, released={"epochs": "9", "seed": "6"})
    assert "Passes over the images. (default: 9)" in found
    assert "--epoch " in found
    assert "Another folder. (optional)" in found
    assert "Folders. (optional)" in found
    assert "--out STR Another folder. (optional)" in found
    assert "(default: 0.5)" in found
    assert "Seed of everything. (default: 6)" in found
    assert "default: None" not in found
    monkeypatch.setattr("sys.argv", ["x", "--epoch", "3", "--inner.seed", "4"])
    assert parse(Command, prog="x", description="") == Command(epochs=3, inner=Inner(4))


def test_released_values_are_grouped():
    assert grouped({"cub": 100, "ilsvrc": 9, "ext": 100}) == "100 (cub, ext), 9 (ilsvrc)"
    assert grouped({"cub": 0.1, "ilsvrc": 0.1}) == "0.1"


def test_a_list_that_must_be_given_is_required(capsys, monkeypatch):
    @dataclass(frozen=True)
    class Command:
        runs: tyro.conf.Positional[tuple[str, ...]]
        """Folders."""

    assert "Folders. (required)" in told(capsys, monkeypatch, Command)
    monkeypatch.setattr("sys.argv", ["x", "a", "b"])
    assert parse(Command, prog="x", description="") == Command(("a", "b"))
