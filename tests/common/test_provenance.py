import subprocess

from common.provenance import provenance


def test_provenance_names_the_commit():
    here = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    commit = provenance()["git_commit"]
    assert commit is None if not here else commit.removesuffix("-dirty") == here
