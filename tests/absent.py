"""Python without some of its packages, for tests of what is imported where."""


def without(*packages: str) -> str:
    """Code after which those packages can't be imported, as in an environment that lacks them.

    Not `sys.modules[name] = None`: libraries that look there whether a package was imported would take None for it.
    """
    return (
        "import sys\n"
        "class Absent:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.partition('.')[0] in {packages!r}:\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Absent())\n"
    )
