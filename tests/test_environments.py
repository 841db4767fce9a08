"""environments/: the conda files agree with the pins and with pyproject.toml, and create.sh takes what is there."""

import importlib.metadata
import os
import re
import shutil
import stat
import subprocess
import sysconfig
import tomllib
from pathlib import Path

import cv2
import pytest
import setuptools
import yaml
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "environments"
NAMES = ("dgl_tf", "grcam", "spol", "bas", "all", "tf221")


def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def pins(file=FOLDER / "pins.txt"):
    lines = [line for line in file.read_text().splitlines() if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[a-z0-9-]+==[^=\s]+", line) for line in lines)
    assert lines == sorted(set(lines))
    return dict(line.split("==") for line in lines)


def conda_file(name):
    parsed = yaml.safe_load((FOLDER / f"{name}.yml").read_text())
    (by_pip,) = [item["pip"] for item in parsed["dependencies"] if isinstance(item, dict)]
    return parsed, by_pip


def requirements(name):
    return {Requirement(line).name: Requirement(line) for line in conda_file(name)[1] if not line.startswith("-c")}


@pytest.mark.parametrize("name", NAMES)
def test_conda_files_pin_what_the_pins_say(name):
    parsed, by_pip = conda_file(name)
    assert "python=3.11" in parsed["dependencies"]
    file = "pins-tf221.txt" if name == "tf221" else "pins.txt"
    assert f"-c {file}" in by_pip
    known = pins(FOLDER / file)
    for package, requirement in requirements(name).items():
        assert str(requirement.specifier) == f"=={known[package]}"


@pytest.mark.parametrize("name", NAMES)
def test_conda_files_hold_what_pyproject_asks_for(name):
    extras = project()["optional-dependencies"]
    chosen = extras.keys() - {"crf", "proposals"} if name in ("all", "tf221") else [name, "weights"]
    asked = [
        Requirement(item) for item in project()["dependencies"] + [item for extra in chosen for item in extras[extra]]
    ]
    found = requirements(name)
    assert {item.name for item in asked} == set(found)
    for item in asked:
        assert Version(str(found[item.name].specifier).removeprefix("==")) in item.specifier, item


def test_they_are_what_render_writes():
    done = subprocess.run(["python3", FOLDER / "render.py", "--check"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "up to date\n")


def test_each_is_the_least_its_paper_needs():
    assert not {"torch", "torchvision", "timm"} & set(requirements("dgl_tf"))
    for name in ("bas", "spol"):
        assert not {"tensorflow-cpu", "tensorpack"} & set(requirements(name))
    assert {"torch", "tensorflow-cpu", "tensorpack"} <= set(requirements("grcam"))
    assert not {"pytest", "ruff"} & set(requirements("bas"))
    union = set().union(*(requirements(name) for name in NAMES[:4]))
    assert union < set(requirements("all"))


def test_what_is_installed_here_is_what_is_pinned():
    newer = Version(importlib.metadata.version("numpy")) >= Version("2")
    known, differing = pins(FOLDER / ("pins-tf221.txt" if newer else "pins.txt")), {}
    for distribution in importlib.metadata.distributions(path=[sysconfig.get_path("purelib")]):
        name = re.sub(r"[-_.]+", "-", distribution.metadata["Name"]).lower()
        if name in known and distribution.version != known[name]:
            differing[name] = (distribution.version, known[name])
    assert differing == {}


def test_the_opencv_that_runs_is_the_one_asked_for():
    """CI names a file of its own when it puts another OpenCV in front; a run of the wrong one would show nothing."""
    pinned = pins(ROOT / os.environ.get("WSOL_OPENCV", "environments/pins.txt"))
    ((package, asked),) = [(name, version) for name, version in pinned.items() if name.startswith("opencv")]
    assert asked.startswith(f"{cv2.__version__}.")
    assert importlib.metadata.version(package) == asked


def test_the_packages_ship_their_types_and_data(monkeypatch):
    monkeypatch.chdir(ROOT)
    distribution = setuptools.Distribution({"script_name": "-"})
    distribution.parse_config_files()
    command = distribution.get_command_obj("build_py")
    command.ensure_finalized()
    shipped = {f"{source}/{name}" for _, source, _, names in command.data_files for name in names}
    tops = {package.split(".")[0] for package in command.packages}
    assert tops == {"common", "wsol", "bas", "dgl_tf", "grcam", "spol"}
    assert {f"{top}/py.typed" for top in tops} <= shipped
    assert {"common/report/templates/report.html.j2", "common/datasets/imagenet_classes.txt"} <= shipped


# ------------------------------------------------------------------------------------------------------- create.sh


@pytest.fixture
def machine(tmp_path):
    """A copy of environments/ and a PATH of our own, on which tools are stand-ins that write down how they are called."""
    shutil.copytree(FOLDER, tmp_path / "environments", ignore=shutil.ignore_patterns("__pycache__"))
    tools = tmp_path / "bin"
    tools.mkdir()
    for tool in ("bash", "sed", "cat", "cut", "sha256sum", "dirname", "mkdir", "rm", "env"):
        (tools / tool).symlink_to(shutil.which(tool))
    return tmp_path


def stand_in(machine, tool, body=""):
    path = machine / "bin" / tool
    path.write_text(f'#!/bin/bash\necho "{tool} $*" >>{machine}/calls\n{body}')
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


MAKES_PREFIX = """
while [ $# -gt 0 ]; do [ "$1" = --prefix ] && prefix=$2; [ "$1" = --file ] && cp_file=$2; shift; done
mkdir -p "$prefix/bin"; echo '#!/bin/bash' >"$prefix/bin/python"; chmod +x "$prefix/bin/python"
cat "$cp_file" >"%s/installed"
"""


def create(machine, *arguments):
    environment = {"PATH": str(machine / "bin"), "HOME": str(machine)}
    command = ["bash", machine / "environments" / "create.sh", *arguments]
    # chmod is what the stand-ins themselves need.
    if not (machine / "bin" / "chmod").exists():
        (machine / "bin" / "chmod").symlink_to(shutil.which("chmod"))
    return subprocess.run(command, capture_output=True, text=True, env=environment)


def calls(machine):
    path = machine / "calls"
    return path.read_text().splitlines() if path.exists() else []


@pytest.mark.parametrize("tool", ["conda", "mamba", "micromamba"])
def test_conda_and_its_kin_come_first(machine, tool):
    stand_in(machine, tool, MAKES_PREFIX % machine)
    stand_in(machine, "python3.11", "exit 0")
    stand_in(machine, "uv")
    done = create(machine, "bas")
    assert done.returncode == 0, done.stderr
    assert f"with {tool}" in done.stdout
    (call,) = calls(machine)
    assert call.startswith(f"{tool} {'env create' if tool != 'micromamba' else 'create'} --yes --prefix")
    assert call.endswith("environments/bas.yml")


def test_then_python_with_venv_and_pip(machine):
    stand_in(machine, "python3.11", f"""
case "$1 $2" in "-m venv") for last; do :; done; mkdir -p "$last/bin"
printf '#!/bin/bash\\necho "pip $*" >>{machine}/calls\\nfor a; do [ -r "$a" ] && cat "$a" >{machine}/installed; done; exit 0' >"$last/bin/python"
chmod +x "$last/bin/python";; esac
""")  # fmt: skip
    stand_in(machine, "uv")
    done = create(machine, "bas")
    assert done.returncode == 0, done.stderr
    assert "with python3.11" in done.stdout
    installed = (machine / "installed").read_text().splitlines()
    assert f"torch=={pins()['torch']}" in installed
    assert f"-c {machine}/environments/pins.txt" in installed
    assert not any("tensorflow" in line for line in installed)


@pytest.mark.parametrize("status", [0, 1])
def test_what_pip_finds_installed_is_not_said(machine, status):
    """Downloads and errors are, and a pip that fails ends the script."""
    (machine / "pyproject.toml").touch()
    said = ["Requirement already satisfied: numpy==1 in here", "Downloading torch (700 MB)", "  bar"]
    lines = "; ".join(f"echo '{line}'" for line in said)
    stand_in(machine, "python3.11", f"""
case "$1 $2" in "-m venv") for last; do :; done; mkdir -p "$last/bin"
cat >"$last/bin/python" <<'END'
#!/bin/bash
for a; do [ -r "$a" ] && [ ! -d "$a" ] && cat "$a" >{machine}/installed; done
{lines}; echo 'ERROR: no room' >&2; printf 'half a line'; exit {status}
END
chmod +x "$last/bin/python";; esac
""")  # fmt: skip
    done = create(machine, "bas")
    assert done.returncode == status
    assert done.stdout.splitlines()[1:4] == ["Downloading torch (700 MB)", "  bar", "half a line"]
    assert "already satisfied" not in done.stdout
    assert "ERROR: no room" in done.stderr
    assert f"torch=={pins()['torch']}" in (machine / "installed").read_text()
    assert ("is ready" in done.stdout) == (status == 0)


def test_then_uv(machine):
    stand_in(machine, "python3.11", "exit 1")  # no venv in it
    stand_in(machine, "uv", f'case "$1" in venv) for last; do :; done; mkdir -p "$last/bin"; '
             'printf "#!/bin/bash\\n" >"$last/bin/python"; chmod +x "$last/bin/python";; '
             f'*) for last; do :; done; cat "$last" >{machine}/installed;; esac')  # fmt: skip
    done = create(machine, "dgl_tf")
    assert done.returncode == 0, done.stderr
    assert "with uv" in done.stdout
    assert f"tensorflow-cpu=={pins()['tensorflow-cpu']}" in (machine / "installed").read_text().splitlines()


def test_with_none_of_them_it_says_what_to_install(machine):
    done = create(machine, "bas")
    assert done.returncode == 2
    assert "no conda, mamba, micromamba, uv or Python 3 with pip is on PATH" in done.stderr


@pytest.mark.parametrize("has_venv", [True, False])
def test_any_other_python_fetches_uv(machine, has_venv):
    """Ubuntu 24.04 has Python 3.12, Debian 13 Python 3.13; either may lack venv, pip then writes uv to a folder."""
    uv = (
        f"mkdir -p {machine}/.envs/.uv/bin; cat >{machine}/.envs/.uv/bin/uv <<'END'\n#!/bin/bash\n"
        f'echo "uv $*" >>{machine}/calls; [ "$1" != venv ] || {{ for last; do :; done; mkdir -p "$last/bin"; '
        'printf "#!/bin/bash\\n" >"$last/bin/python"; chmod +x "$last/bin/python"; }\nEND\n'
        f"chmod +x {machine}/.envs/.uv/bin/uv"
    )
    venv = (
        f"mkdir -p {machine}/.envs/.uv/bin; printf '#!/bin/bash\\nexec {machine}/bin/fetches-uv\\n' "
        f">{machine}/.envs/.uv/bin/python; chmod +x {machine}/.envs/.uv/bin/python"
    )
    stand_in(machine, "fetches-uv", uv)
    stand_in(
        machine,
        "python3",
        f"""
case "$1 $2" in
  "-c "*) exit 1 ;;
  "-m venv") {venv if has_venv else "exit 1"} ;;
  "-m pip") exec {machine}/bin/fetches-uv ;;
esac
""",
    )
    done = create(machine, "bas")
    assert done.returncode == 0, done.stderr
    assert "fetching uv from PyPI" in done.stdout
    assert "with uv" in done.stdout
    assert any(call.startswith("uv venv --python 3.11 --seed") for call in calls(machine))


def test_the_second_call_does_nothing(machine):
    stand_in(machine, "conda", MAKES_PREFIX % machine)
    create(machine, "bas")
    done = create(machine, "bas")
    assert "is ready" in done.stdout
    assert len(calls(machine)) == 1


def test_a_changed_pin_is_taken_up(machine):
    stand_in(machine, "conda", (MAKES_PREFIX % machine) + 'mkdir -p "$prefix/conda-meta"\n')
    create(machine, "bas")
    with open(machine / "environments" / "pins.txt", "a") as file:
        file.write("zzz==1\n")
    create(machine, "bas")
    assert [call.split()[1:3] for call in calls(machine)] == [["env", "create"], ["env", "update"]]


def test_an_interrupted_one_is_made_again(machine):
    stand_in(machine, "conda", "exit 1")
    assert create(machine, "bas").returncode != 0
    stand_in(machine, "conda", MAKES_PREFIX % machine)
    assert create(machine, "bas").returncode == 0
    assert len(calls(machine)) == 2


def test_gpu_takes_tensorflow_with_cuda(machine):
    stand_in(machine, "conda", MAKES_PREFIX % machine)
    create(machine, "dgl_tf")
    done = create(machine, "dgl_tf", "--gpu")
    assert done.returncode == 0, done.stderr
    installed = (machine / "installed").read_text()
    assert f"tensorflow[and-cuda]=={pins()['tensorflow-cpu']}" in installed
    assert "tensorflow-cpu" not in installed.split("dependencies:")[1]
    create(machine, "tf221", "--gpu")
    assert "tensorflow[and-cuda]==2.21" in (machine / "installed").read_text()
    assert not list((machine / "environments").glob(".*-gpu.yml"))


@pytest.mark.parametrize("arguments", [(), ("vgg",), ("bas", "--cuda")])
def test_wrong_arguments(machine, arguments):
    done = create(machine, *arguments)
    assert done.returncode == 2
    assert "usage: " in done.stderr


def test_scripts_are_executable():
    for path in (ROOT / "run_tests.sh", ROOT / "run_demo.sh", FOLDER / "create.sh", ROOT / ".ci" / "run"):
        assert os.access(path, os.X_OK), path
