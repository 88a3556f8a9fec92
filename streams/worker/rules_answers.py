"""Answers to proposed rules: records with which a live worker reports whether its store's build supports them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from vacancy.resources.model.errors import LogError
from vacancy.resources.model.record import NewRecord
from vacancy.resources.model.rules_answer import RulesAnswer
from vacancy.streams.log import Log, Receipt


class RulesAnswers:
    """Sends the answers that the tables of a partition lack, once each.

    `unanswered` returns them; it is asked once after records were applied. `answer_entry` makes the record of an answer;
    without it nothing is ever due. An answer that the log has already changes nothing there, so a crash is harmless.
    """

    def __init__(
        self,
        log: Log,
        unanswered: Callable[[int], Sequence[RulesAnswer]],
        answer_entry: Callable[[int, RulesAnswer], NewRecord] | None,
    ) -> None:
        self._log, self._unanswered, self._answer_entry = log, unanswered, answer_entry
        self._known: set[int] = set()
        self._sent: dict[int, dict[RulesAnswer, Receipt]] = {}

    def start(self, partition: int) -> None:
        """Ask again: the partition starts to be followed, or records were just applied to it."""
        self._known.discard(partition)

    def due(self, partition: int) -> list[RulesAnswer]:
        """The answers to send to a partition that is at the end of the log. Raises what `unanswered` raises."""
        if self._answer_entry is None or partition in self._known:
            return []
        asked = self._unanswered(partition)
        sent = self._sent.get(partition, {})
        self._sent[partition] = sent = {answer: sent[answer] for answer in asked if answer in sent}
        waiting = [receipt for receipt in sent.values() if not receipt.done]
        if not waiting:
            self._known.add(partition)
        return [answer for answer in asked if answer not in sent or _failed(sent[answer])]

    def send(self, partition: int, answers: Sequence[RulesAnswer]) -> None:
        """Send these answers. May wait while the log's client connects. Raises as `Log.send` does."""
        if self._answer_entry is None:
            return
        try:
            for answer in answers:
                receipt = self._log.send([self._answer_entry(partition, answer)])
                self._sent.setdefault(partition, {})[answer] = receipt
        finally:
            self._known.discard(partition)  # until the log has acknowledged them, and after a failure


def _failed(receipt: Receipt) -> bool:
    """Whether the log refused the record, or did not answer. False while it may still answer."""
    if not receipt.done:
        return False
    try:
        receipt.wait(0.0)
    except LogError:
        return True
    return False
