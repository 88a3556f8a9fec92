"""vacancy with the embedded log: a SQLite file that the schedulers append to, and a worker that folds it."""

from __future__ import annotations

from pathlib import Path

from evaluation.candidates.candidate import About, Setting
from evaluation.candidates.vacancy.store import REVIEW, SETTINGS, VacancyStore


class VacancyEmbedded(VacancyStore):
    """One host: its schedulers share a SQLite log and a store."""

    name = "vacancy-embedded"

    def about(self) -> About:
        """See `Candidate.about`."""
        synchronous = Setting("synchronous", "FULL", "docs/operating.md: the SQLite log's fixed setting")
        return About(
            version=self.version(),
            settings=(*SETTINGS, synchronous),
            acknowledgement="the claim is in the SQLite log on disk (fsync), and the worker has accepted it",
            durability="a kill of any process and a power failure; not the loss of the disk",
            replicas=1,
            processes="one worker; the log is a file that the schedulers write",
            code_lines=self.code_lines(__file__),
            review=f"{REVIEW} SQLite's write-ahead log is synced at each commit, and an append is one commit. The version is that of this repository.",
        )

    def start(self, workdir: Path) -> None:
        """See `Candidate.start`."""
        self.start_at(f"sqlite://{workdir.absolute()}/log.db", workdir)

    def kill(self) -> str:
        """See `Candidate.kill`."""
        self.kill_worker()
        return "the worker; the log is in the processes of the schedulers, which go on"

    def restart(self) -> None:
        """See `Candidate.restart`."""
        self.start_worker()
