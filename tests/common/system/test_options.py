from dataclasses import dataclass, field
from typing import Annotated, Literal

import pytest
import tyro

from common.system.errors import UserError
from common.system.options import also, grouped, parse


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


def test_an_option_has_further_names_without_a_prefix(capsys, monkeypatch):
    @dataclass(frozen=True)
    class Inner:
        seed: Annotated[int | None, also("seed")] = None
        """Seed of everything."""
        compile: Annotated[bool, also("compile")] = True
        """Compile."""

    @dataclass(frozen=True)
    class Command:
        load: Annotated[str, also("checkpoint", "snapshot")]
        """A file."""
        inner: Inner = field(default_factory=Inner)
        """More."""

    assert "--checkpoint STR, --snapshot STR, --load STR A file. (required)" in told(capsys, monkeypatch, Command)
    for load, seed, off in (
        ("--load", "--inner.seed", "--inner.no-compile"),
        ("--checkpoint", "--seed", "--no-compile"),
    ):
        monkeypatch.setattr("sys.argv", ["x", load, "a", seed, "4", off])
        assert parse(Command, prog="x", description="") == Command("a", Inner(4, False))


def test_none_is_no_choice(monkeypatch):
    @dataclass(frozen=True)
    class Command:
        method: Literal["cam", "dgl"] | None = None
        """A method."""
        crops: Literal[1, 10] | None = None
        """Crops."""

    for given in (["--method", "none"], ["--method=None"]):
        monkeypatch.setattr("sys.argv", ["x", *given])
        with pytest.raises(UserError, match=r"--method [nN]one; expected one of cam, dgl$"):
            parse(Command, prog="x", description="")
    for given, made in ((["--method", "dgl", "--crops=10"], Command("dgl", 10)), ([], Command())):
        monkeypatch.setattr("sys.argv", ["x", *given])
        assert parse(Command, prog="x", description="") == made


def test_architectures_have_every_spelling(monkeypatch):
    @dataclass(frozen=True)
    class Leading:
        arch: tyro.conf.Positional[Literal["vgg", "inceptionv3"]]
        """The network."""
        source: tyro.conf.Positional[str]
        """A file."""
        back: bool = False
        """The reverse."""

    @dataclass(frozen=True)
    class Option:
        mode: Annotated[Literal["vgg", "mobilenetv1"], also("arch")]
        """The network."""
        load: Annotated[str, also("checkpoint")]
        """A file."""

    for words in (["vgg16", "vgg16"], ["--back", "vgg-16", "vgg16"]):
        monkeypatch.setattr("sys.argv", ["x", *words])
        assert parse(Leading, prog="x", description="") == Leading("vgg", "vgg16", len(words) == 3)
    monkeypatch.setattr("sys.argv", ["x", "resnet50", "a"])
    with pytest.raises(UserError, match="no resnet50 here; expected one of inceptionv3, vgg"):
        parse(Leading, prog="x", description="")
    for words in (
        ["--mode", "mobilenet", "--load", "imagenet:mobilenet_v1"],
        ["--arch=mobilenet-v1", "--checkpoint", "imagenet:mobilenet"],
    ):
        monkeypatch.setattr("sys.argv", ["x", *words])
        assert parse(Option, prog="x", description="") == Option("mobilenetv1", "imagenet:mobilenetv1")
