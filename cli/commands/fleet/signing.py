"""`vacancy signing`: keys, and which nodes must sign their events."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vacancy.cli.context import CommandContext
from vacancy.cli.options import shared_options as o
from vacancy.cli.options.reading_options import ReadingOptions, with_reading_options
from vacancy.cli.output import (
    NOT_WAITED,
    emit,
    emit_json,
    emit_table,
    emit_written,
    failure_as_json,
    note,
    outcome_name,
    past_text,
)
from vacancy.resources.model.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vacancy.clients.admin.signing import SigningPolicy
    from vacancy.projections.reader.store_reader import StoreReader
    from vacancy.streams.log import Log

app = typer.Typer(
    help="Make keys, register those of nodes, and say which nodes must sign their events (rules version 7).",
    no_args_is_help=True,
    rich_markup_mode=None,
)

NodeArgument = Annotated[str, typer.Argument(help="The node's id.")]
KeyArgument = Annotated[str, typer.Argument(metavar="KEY", help="The public key: 64 hexadecimal digits.")]
NodeCellOption = Annotated[
    str | None,
    typer.Option(
        "--cell",
        metavar="NAME|auto",
        help="The node's cell. It is needed before the node has reported; auto: by a hash of its id.",
        show_default="the cell in the store",
    ),
]
OperatorKeyOption = Annotated[
    Path | None,
    typer.Option(
        "--operator-key",
        metavar="FILE",
        help="File of the operator's private key, which signs this. [env: VACANCY_OPERATOR_KEY]",
        show_default=False,
    ),
]


@app.command("make-key")
def make_key(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="The file of the private key. It must not exist.")
    ],
    as_json: o.JsonOption = False,
) -> None:
    """Make a key, write the private part to a file that only its owner can read (mode 0600), and print the public part.

    Make a node's key on the node: then the private part never leaves it. The private part is never printed.
    """
    from vacancy.clients.signing.key_pair import KeyPair

    key = KeyPair.generate()
    key.write(file)
    _emit_public(key.public.hex(), key.id, as_json=as_json)


@app.command("public-key")
def public_key(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file of the private key.")],
    as_json: o.JsonOption = False,
) -> None:
    """Print the public part of a private key."""
    from vacancy.clients.signing.key_pair import read_key

    key = read_key(file)
    _emit_public(key.public.hex(), key.id, as_json=as_json)


@app.command()
@with_reading_options
def show(reading: ReadingOptions, as_json: o.JsonOption = False) -> None:
    """Show the keys of operators, which nodes must sign, and the keys of nodes. A node that must sign and has no key cannot
    report."""
    context = reading.context()
    from vacancy.clients.inspection.signing import signing_state
    from vacancy.resources.model.signatures import key_id

    with context.open_reader(with_view=False) as reader:
        found = signing_state(reader)
        past = past_text(reader)
    if as_json:
        partitions = [
            {**one._asdict(), "required": [scope.model_dump() for scope in one.required]}
            for one in found.partitions
        ]
        emit_json(
            {"log": found.log, "partitions": partitions, "nodes": [one._asdict() for one in found.nodes]}
        )
        return
    if past:
        note(past)
    rows = []
    for one in found.partitions:
        ids = " ".join(key_id(bytes.fromhex(text)) for text in one.operators)
        scopes = " ".join(f"{scope.cell}:{scope.node}" for scope in one.required)
        rows.append((one.partition, one.revision, ids or "none", scopes or "none"))
    emit_table(("PARTITION", "REVISION", "OPERATORS' KEYS", "MUST SIGN (CELL:NODE)"), rows)
    if found.nodes:
        emit_table(
            ("NODE", "CELL", "MUST SIGN", "KEYS", "HAS SIGNED"),
            (
                (
                    one.node,
                    one.cell,
                    "yes" if one.required else "no",
                    " ".join(key_id(bytes.fromhex(text)) for text in one.keys) or "none",
                    "yes" if one.last else "no",
                )
                for one in found.nodes
            ),
        )


@app.command()
def pin(
    key: Annotated[
        str | None,
        typer.Argument(metavar="KEY", help="The public key to add.", show_default="that of --operator-key"),
    ] = None,
    operator_key: OperatorKeyOption = None,
    timeout: o.TimeoutOption = 10.0,
    no_wait: o.NoWaitOption = False,
    log: o.LogOption = None,
    store: o.StoreOption = None,
    config: o.ConfigOption = None,
    kafka: o.KafkaOption = None,
    as_json: o.JsonOption = False,
) -> None:
    """Pin an operator's key in every partition. The first one is taken as it is; one that is already pinned signs the others.

    Pin a key as soon as the log follows rules version 7: until then, any program that can write to the log could pin its own.
    """

    def change(policy: SigningPolicy, own: str) -> SigningPolicy:
        if not policy.operators and key not in (None, own):
            return policy._replace(operators=(own, key or own))
        return policy._replace(operators=(*policy.operators, key or own))

    context = CommandContext(log=log, store=store, config=config, kafka=kafka, operator_key=operator_key)
    _check_key(key)
    _set_policy(context, change, timeout, no_wait=no_wait, as_json=as_json)


@app.command()
def unpin(
    key: KeyArgument,
    operator_key: OperatorKeyOption = None,
    timeout: o.TimeoutOption = 10.0,
    no_wait: o.NoWaitOption = False,
    log: o.LogOption = None,
    store: o.StoreOption = None,
    config: o.ConfigOption = None,
    kafka: o.KafkaOption = None,
    as_json: o.JsonOption = False,
) -> None:
    """Remove an operator's key from every partition. It never comes back. Without the last one, nobody signs any more, and
    the next program that pins a key is the operator."""
    context = CommandContext(log=log, store=store, config=config, kafka=kafka, operator_key=operator_key)
    _set_policy(
        context,
        lambda policy, _own: policy._replace(operators=tuple(one for one in policy.operators if one != key)),
        timeout,
        no_wait=no_wait,
        as_json=as_json,
    )


@app.command()
def require(
    nodes: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[CELL:NODE…]",
            help="Nodes that must sign: names of cells and nodes, `*` for any characters: `*:rack7-*`. They replace those of before.",
        ),
    ] = None,
    all_: Annotated[bool, typer.Option("--all", help="All nodes of all cells must sign.")] = False,
    none: Annotated[bool, typer.Option("--none", help="No node must sign.")] = False,
    despite_missing: Annotated[
        bool,
        typer.Option(
            "--despite-missing", help="Also where nodes that would have to sign have not signed yet."
        ),
    ] = False,
    operator_key: OperatorKeyOption = None,
    timeout: o.TimeoutOption = 10.0,
    no_wait: o.NoWaitOption = False,
    log: o.LogOption = None,
    store: o.StoreOption = None,
    config: o.ConfigOption = None,
    kafka: o.KafkaOption = None,
    as_json: o.JsonOption = False,
) -> None:
    """Say which nodes must sign. Events of such a node without a signature of its key become dead letters. In their cells, what
    operators set of nodes must be signed with an operator's key.

    It is refused while a node that would have to sign has not signed anything yet: its events would be refused. Let
    its publisher sign first (`vacancy signing register`, VACANCY_NODE_KEY).

    Exit codes: 0 it is set; 1 a node has not signed yet, or the event was refused; 2 wrong usage; 6 the store did not read
    it in time.
    """
    from vacancy.clients.admin.signing import check_have_signed, parse_scopes

    scopes = parse_scopes(nodes or (), every=all_, none=none)
    context = CommandContext(log=log, store=store, config=config, kafka=kafka, operator_key=operator_key)
    _set_policy(
        context,
        lambda policy, _own: policy._replace(required=scopes),
        timeout,
        no_wait=no_wait,
        as_json=as_json,
        check=None if despite_missing else lambda reader: check_have_signed(reader, scopes),
    )


@app.command()
def register(
    node: NodeArgument,
    key: KeyArgument,
    cell: NodeCellOption = None,
    operator_key: OperatorKeyOption = None,
    timeout: o.TimeoutOption = 10.0,
    no_wait: o.NoWaitOption = False,
    log: o.LogOption = None,
    store: o.StoreOption = None,
    config: o.ConfigOption = None,
    kafka: o.KafkaOption = None,
    as_json: o.JsonOption = False,
) -> None:
    """Register a public key of a node, besides those that it has: up to four, so that a new key can be used before the old one is
    revoked."""
    context = CommandContext(log=log, store=store, config=config, kafka=kafka, operator_key=operator_key)
    _set_keys(context, node, lambda keys: (*keys, key), cell, timeout, no_wait=no_wait, as_json=as_json)


@app.command()
def rotate(
    node: NodeArgument,
    key: KeyArgument,
    cell: NodeCellOption = None,
    operator_key: OperatorKeyOption = None,
    timeout: o.TimeoutOption = 10.0,
    no_wait: o.NoWaitOption = False,
    log: o.LogOption = None,
    store: o.StoreOption = None,
    config: o.ConfigOption = None,
    kafka: o.KafkaOption = None,
    as_json: o.JsonOption = False,
) -> None:
    """Replace all keys of a node by this one. The others never come back."""
    context = CommandContext(log=log, store=store, config=config, kafka=kafka, operator_key=operator_key)
    _set_keys(context, node, lambda _keys: (key,), cell, timeout, no_wait=no_wait, as_json=as_json)


@app.command()
def revoke(
    node: NodeArgument,
    key: Annotated[
        str | None,
        typer.Argument(metavar="[KEY]", help="The public key.", show_default="all keys of the node"),
    ] = None,
    cell: NodeCellOption = None,
    operator_key: OperatorKeyOption = None,
    timeout: o.TimeoutOption = 10.0,
    no_wait: o.NoWaitOption = False,
    log: o.LogOption = None,
    store: o.StoreOption = None,
    config: o.ConfigOption = None,
    kafka: o.KafkaOption = None,
    as_json: o.JsonOption = False,
) -> None:
    """Revoke a key of a node, or all of them. What it signs from now on is refused, and it never comes back. What the node has and
    what is held of it stays: disable or retire a node that was stolen."""
    context = CommandContext(log=log, store=store, config=config, kafka=kafka, operator_key=operator_key)

    def change(keys: tuple[str, ...]) -> Iterable[str]:
        if key is not None and key not in keys:
            raise UsageError(
                f"node {node} does not have this key", do="look with `vacancy signing show --json`"
            )
        return () if key is None else (one for one in keys if one != key)

    _set_keys(context, node, change, cell, timeout, no_wait=no_wait, as_json=as_json)


# -- one step for all of them ------------------------------------------------------------------------------------


def _set_policy(
    context: CommandContext,
    change: Callable[[SigningPolicy, str], SigningPolicy],
    timeout: float,
    *,
    no_wait: bool,
    as_json: bool,
    check: Callable[[StoreReader], None] | None = None,
) -> None:
    from vacancy.clients.admin.signing import set_policy

    with failure_as_json(as_json), _opened(context, timeout) as (opened, reader, own):
        if check is not None:
            check(reader)
        changed = set_policy(
            opened, reader, lambda policy: change(policy, own), timeout_s=timeout, wait=not no_wait
        )
    if as_json:
        emit_written({"changed": changed, "outcome": outcome_name(not no_wait)}, context)
    elif changed:
        emit(f"set in partitions {', '.join(map(str, changed))}")
    else:
        emit("it is so already in every partition")
    if no_wait and changed and not as_json:
        note(NOT_WAITED)


def _set_keys(
    context: CommandContext,
    node: str,
    change: Callable[[tuple[str, ...]], Iterable[str]],
    cell: str | None,
    timeout: float,
    *,
    no_wait: bool,
    as_json: bool,
) -> None:
    from vacancy.clients.admin.signing import set_node_keys
    from vacancy.resources.model.signatures import key_id

    with failure_as_json(as_json, node=node), _opened(context, timeout) as (opened, reader, _own):
        found = set_node_keys(opened, reader, node, change, cell=cell, timeout_s=timeout, wait=not no_wait)
    if as_json:
        answer = {"node": node, "cell": found.cell, "keys": found.keys, "required": found.required}
        emit_written({**answer, "outcome": outcome_name(not no_wait)}, context)
        return
    ids = " ".join(key_id(bytes.fromhex(one)) for one in found.keys)
    emit(f"{node} in cell {found.cell} signs with {f'key {ids}' if ids else 'no key'}")
    if no_wait:
        note(NOT_WAITED)


@contextmanager
def _opened(context: CommandContext, timeout_s: float) -> Iterator[tuple[Log, StoreReader, str]]:
    """The log, the store, and the public key of the operator."""
    key = context.operator_key()
    if key is None:
        raise UsageError(
            "no operator's key is named, and one must sign this",
            do="name its file with --operator-key or VACANCY_OPERATOR_KEY; make one with `vacancy signing make-key`",
        )
    with context.open_log(timeout_s, to_write=True) as log, context.open_reader(with_view=False) as reader:
        yield log, reader, key.public.hex()


def _check_key(key: str | None) -> None:
    from vacancy.clients.admin.signing import check_public_key

    if key is not None:
        check_public_key(key)


def _emit_public(public: str, id_: str, *, as_json: bool) -> None:
    if as_json:
        emit_json({"public": public, "id": id_})
    else:
        emit(public)
