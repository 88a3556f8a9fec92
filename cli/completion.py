"""What the shell may offer at a TAB: commands, options, and the names of nodes, providers and consumers.

A person waits for it, and whatever is printed lands in the command line. So this module and what it imports load nothing but
the standard library. It offers only names that no shell changes, and ends silently whatever goes wrong. Names come from a file;
where it is old, a process in the background writes a new one (`completion_names`).
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
import tomllib
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Final

from vacancy.cli.completion_table import COMMANDS
from vacancy.streams.printable import printable

OFFERED_MAX: Final = 200
"""How many names are offered at once. Who has more types another letter."""

FRESH_S: Final = 5.0
"""How old the file of names may be before a new one is made for the next TAB."""

NAMES: Final = ("node", "provider", "consumer")
_CONTINUES: Final = "/"


def offers(words: Sequence[str], names: Callable[[str, str, Mapping[str, str]], list[str]]) -> list[str]:
    """What may stand in the place of the last of `words`, which are those after `vacancy`. `names` has the names of a kind that
    begin with a text, given the options so far."""
    *before, current = words or [""]
    path, given, arguments, pending = _walk(before)
    command = COMMANDS[path]
    if pending is None and current.startswith("--") and "=" in current:
        option, _, current = current.partition("=")
        return [f"{option}={one}" for one in _values(command.options.get(option, ""), current, given, names)]
    if pending is not None:
        return _values(pending, current, given, names)
    if current.startswith("-"):
        return sorted(one for one in command.options if one.startswith(current))
    below = {name.rpartition(" ")[2] for name in COMMANDS if name and name.rpartition(" ")[0] == path}
    found = sorted(name for name in below if name.startswith(current)) if not arguments else []
    if command.arguments:
        kind = command.arguments[min(arguments, len(command.arguments) - 1)]
        found += _values(kind, current, given, names)
    return found


def _walk(words: Sequence[str]) -> tuple[str, dict[str, str], int, str | None]:
    """The command that the words name, its options with values, the number of its arguments, and the kind of value that the last
    option waits for (None: it waits for none)."""
    path, given, arguments = "", {}, 0
    waiting = ""
    for word in words:
        command = COMMANDS[path]
        if waiting:
            given[waiting], waiting = word, ""
        elif word.startswith("-") and word != "-":
            option, equals, value = word.partition("=")
            if equals:
                given[option] = value
            elif command.options.get(option):
                waiting = option
        elif not arguments and f"{path} {word}".strip() in COMMANDS:
            path = f"{path} {word}".strip()
        else:
            arguments += 1
    return path, given, arguments, COMMANDS[path].options[waiting] if waiting else None


def _values(
    kind: str,
    current: str,
    given: Mapping[str, str],
    names: Callable[[str, str, Mapping[str, str]], list[str]],
) -> list[str]:
    if kind == "file":
        return list(_files(current))
    if kind in NAMES:
        return names(kind, current, given)
    if kind == "name":
        return sorted({one for each in NAMES for one in names(each, current, given)})
    return sorted(one for one in kind.split("|") if one.startswith(current)) if "|" in kind else []


def _files(current: str) -> Iterator[str]:
    directory, slash, begin = current.rpartition("/")
    there = Path(f"{directory}{slash}" or ".").expanduser()
    for one in sorted(there.iterdir()):
        if one.name.startswith(begin) and (begin or not one.name.startswith(".")):
            yield f"{directory}{slash}{one.name}{_CONTINUES if one.is_dir() else ''}"


# -- names --------------------------------------------------------------------------------------------------------


def store_of(given: Mapping[str, str]) -> Path:
    """The store that a command line names, as `load_settings` finds it."""
    if named := given.get("--store") or os.environ.get("VACANCY_STORE"):
        return Path(named).expanduser().absolute()
    file = Path(given.get("--config") or os.environ.get("VACANCY_CONFIG") or "vacancy.toml").expanduser()
    if file.is_file() and (named := tomllib.loads(file.read_text()).get("store")):
        return Path(named).expanduser().absolute()
    state = os.environ.get("XDG_STATE_HOME", "")
    base = Path(state) if state.startswith("/") else Path.home() / ".local/state"
    return base / "vacancy/store"


def names_directory(store: Path) -> Path:
    """Where the files with the names in a store are: one for each kind, sorted, a name a line."""
    cache = os.environ.get("XDG_CACHE_HOME", "")
    base = Path(cache) if cache.startswith("/") else Path.home() / ".cache"
    return base / "vacancy/names" / blake2b(str(store).encode(), digest_size=8).hexdigest()


def known_names(kind: str, begin: str, given: Mapping[str, str]) -> list[str]:
    """The names of a kind that begin with a text. Where their file is old, another one is made in the background."""
    store = store_of(given)
    if not (store / "store.json").exists():
        return []
    file = names_directory(store) / kind
    try:
        age_s = time.time() - file.stat().st_mtime
        lines = file.read_text(encoding="ascii").split("\n")
    except OSError:
        age_s, lines = FRESH_S, list[str]()
    if not 0 <= age_s < FRESH_S:
        subprocess.Popen(
            [sys.executable, "-m", "vacancy.cli.completion_names", str(store)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    first = bisect_left(lines, begin)
    found = lines[first : first + OFFERED_MAX]
    return [name for name in found if name and name.startswith(begin)]


# -- shells -------------------------------------------------------------------------------------------------------

SCRIPTS: Final[Mapping[str, str]] = {
    "bash": """# vacancy: completion of commands, options and names. Load it with: source <(vacancy completion bash)
_vacancy() {
    local IFS=$'\\n'
    COMPREPLY=($(PYTHON -m vacancy.cli.completion bash "${COMP_LINE:0:COMP_POINT}" "$COMP_WORDBREAKS" 2>/dev/null))
}
complete -o nospace -F _vacancy vacancy
""",
    "zsh": """#compdef vacancy
# vacancy: completion of commands, options and names. Load it with: source <(vacancy completion zsh)
_vacancy() {
    local -a found
    found=("${(@f)$(PYTHON -m vacancy.cli.completion words "${(@Q)words[2,CURRENT-1]}" "$PREFIX" 2>/dev/null)}")
    found=("${(@)found:#}")
    compadd -a found
}
(( $+functions[compdef] )) || { autoload -Uz compinit && compinit; }
compdef _vacancy vacancy
""",
    "fish": """# vacancy: completion of commands, options and names. Load it with: vacancy completion fish | source
function __vacancy_offers
    set -l before (commandline -opc)
    PYTHON -m vacancy.cli.completion words $before[2..] (commandline -ct) 2>/dev/null
end
complete -c vacancy -f -a '(__vacancy_offers)'
""",
}


def script(shell: str, python: str) -> str:
    """The script for a shell. `python` runs this module."""
    return SCRIPTS[shell].replace("PYTHON", shlex.quote(python))


def _words_of(line: str) -> list[str]:
    """The words after `vacancy` in a line up to the cursor; the last one is the one to complete."""
    for closing in ("", "'", '"'):
        try:
            words = shlex.split(line + closing)
        except ValueError:
            continue
        break
    else:
        return [""]
    if line[-1:].isspace() and not closing:
        words.append("")
    names = [Path(word).name for word in words]
    return words[names.index("vacancy") + 1 :] if "vacancy" in names else [""]


def _in_bash(line: str, breaks: str) -> Iterator[str]:
    """The offers as bash needs them: without what stands before its last break in the word, and with a space at the end of a
    whole word."""
    words = _words_of(line)
    kept = max((words[-1].rfind(one) + 1 for one in ":=" if one in breaks), default=0) if words else 0
    for one in offers(words, known_names):
        yield one[kept:] + ("" if one.endswith((_CONTINUES, "=")) else " ")


def main(arguments: Sequence[str]) -> None:
    """Print the offers, one a line: for `bash LINE WORDBREAKS`, or for `words WORD…`. Whatever goes wrong is silent."""
    try:
        how, *rest = arguments
        found = _in_bash(rest[0], rest[1]) if how == "bash" else iter(offers(rest, known_names))
        sys.stdout.write("".join(f"{printable(one)}\n" for one in found))
        sys.stdout.flush()
    except Exception:
        os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
