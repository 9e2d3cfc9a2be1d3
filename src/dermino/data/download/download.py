"""Fetching a dataset that its publisher offers openly."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from dermino.data.download.address_lists import read_targets
from dermino.data.download.checks import digests
from dermino.data.download.crop import check_picture, cut
from dermino.data.download.failures import Dead
from dermino.data.download.host import Host
from dermino.data.download.lanes import in_lanes
from dermino.data.download.offer import Offer, find_offer
from dermino.data.download.record import Record
from dermino.data.download.target import Target
from dermino.data.download.web import Patience, Web
from dermino.data.findings import Finding, write_findings
from dermino.errors import UserError
from dermino.files import sole_writer, writable_folder
from dermino.progress import track

FINDINGS = "download.findings.csv"


@dataclass(frozen=True)
class Downloaded:
    """What a download did.

    ``fetched`` counts files that came now, ``kept`` those that were there, ``findings`` has a
    line for each dead link.
    """

    folder: Path
    fetched: int
    kept: int
    findings: list[Finding]


def download(
    name: str,
    out: str | Path,
    *,
    only: Sequence[str] = (),
    limit: int | None = None,
    workers: int = 16,
    retry_dead: bool = False,
    addresses: str | Path | None = None,
    patience: Patience | None = None,
) -> Downloaded:
    """Fetch a dataset into a folder; called again, it fetches what is not there yet.

    Files that broke off are continued, checked where the publisher states how, and appear under
    their name only when complete. ``downloaded.jsonl`` tells of each file its address, size,
    SHA-256 and date; ``download.findings.csv`` lists the dead links.

    Parameters
    ----------
    name:
        A name of :func:`dermino.data.download.read_offers`.
    out:
        The folder.
    only:
        Patterns of file names; others are not fetched.
    limit:
        Fetch at most so many pictures of a list.
    workers:
        Connections in all; how many of them to one host is the offer's.
    retry_dead:
        Ask again for what was found dead before.
    addresses:
        A YAML file of offers in place of dermino's own.
    patience:
        How often and how long to wait.

    Raises
    ------
    UserError
        If the offer is unknown, the folder cannot be written, or a file without which the list
        cannot be read is not to be had.
    """
    offer = find_offer(name, addresses)
    if not offer.listing and not any(_wanted(f.path, only) for f in offer.files):
        raise UserError(
            f"No file of '{name}' is called {' or '.join(only)}.",
            f"It has: {', '.join(Path(f.path).name for f in offer.files)}.",
        )
    folder = writable_folder(out)
    stop = threading.Event()
    web = Web(patience or Patience(), stop)
    with sole_writer(folder):
        session = _Session(offer, folder, web, workers, retry_dead)
        try:
            files = [
                Target(offer.url(f), f.path, f.bytes, f.md5, f.sha256)
                for f in offer.files
                if f.path == offer.table or _wanted(f.path, only)
            ]
            session.fetch(files)
            if offer.listing:
                session.fetch([t for t in session.listed() if _wanted(t.path, only)][:limit])
        finally:
            web.close()
            write_findings(session.findings, folder / FINDINGS)
    return Downloaded(folder, session.fetched, session.kept, session.findings)


class _Session:
    """One call of :func:`download`: what it has done so far."""

    def __init__(
        self, offer: Offer, folder: Path, web: Web, workers: int, retry_dead: bool
    ) -> None:
        self.findings: list[Finding] = []
        self.fetched = 0
        self.kept = 0
        self._offer = offer
        self._folder = folder
        self._web = web
        self._workers = workers
        self._retry_dead = retry_dead
        self._record = Record(folder)

    def listed(self) -> list[Target]:
        """Read the offer's list of addresses."""
        offer = self._offer
        if offer.listing != "isic-archive" and not (self._folder / offer.table).is_file():
            reasons = [finding.problem for finding in self.findings]
            raise UserError(
                f"'{offer.table}', which lists the pictures of {offer.name}, could not be fetched"
                f"{f': {reasons[0]}' if reasons else ''}.",
                f"Try again later, or put it into '{self._folder}' yourself.",
            )
        host = Host(offer.delay, self._web.stop)
        try:
            return read_targets(
                offer, self._folder, lambda url: self._web.json(url, host), self.findings
            )
        except Dead as error:
            raise UserError(
                f"The list of {offer.name} could not be read: {error}.", "Try again later."
            ) from error

    def fetch(self, targets: Iterable[Target]) -> None:
        """Fetch what is neither there nor known to be dead."""
        missing = []
        for target in targets:
            known = None if self._retry_dead else self._record.dead(target.path, target.url)
            if self._is_there(target):
                self.kept += len(target.results)
            elif known:
                self._report(target, known, "found before")
            else:
                missing.append(target)
        done = in_lanes(
            missing,
            self._fetch_one,
            workers=self._workers,
            per_host=self._offer.per_host,
            delay=self._offer.delay,
            stop=self._web.stop,
        )
        for target, outcome in track(done, f"downloading {self._offer.name}", total=len(missing)):
            if isinstance(outcome, Dead):
                self._report(target, outcome.reason, outcome.detail)
                if outcome.final:
                    self._record.add(target.path, target.url, dead=outcome.reason)
            else:
                self.fetched += len(target.results)
                size, sha256 = outcome
                self._record.add(target.path, target.url, bytes=size, sha256=sha256)

    def _fetch_one(self, target: Target, host: Host) -> tuple[int, str] | Dead:
        path = self._folder / target.path
        part = path.with_name(f"{path.name}.part")
        try:
            if host.given_up:
                raise Dead(host.given_up, final=False)
            sha256 = self._web.fetch(target, part, host)
            size = part.stat().st_size
            try:
                if target.crops:
                    cut(part, target.crops, self._folder)
                    part.unlink()
                    return size, sha256
                if target.picture:
                    check_picture(part)
            except Dead:
                part.unlink()
                raise
            os.replace(part, path)
        except Dead as outcome:
            return outcome
        return size, sha256

    def _is_there(self, target: Target) -> bool:
        """Whether all files of a target exist; those nobody recorded are checked first."""
        if not all((self._folder / path).is_file() for path in target.results):
            return False
        if target.crops:
            return True
        path = self._folder / target.path
        recorded = self._record.size(target.path)
        size = target.size if recorded is None else recorded
        if size is not None and path.stat().st_size != size:
            return False
        if recorded is not None or not (target.md5 or target.sha256):
            return True
        found = digests(path)
        return all(
            published in {None, found[kind]}
            for kind, published in (("md5", target.md5), ("sha256", target.sha256))
        )

    def _report(self, target: Target, problem: str, detail: str) -> None:
        detail = f"{target.url} ({detail})" if detail else target.url
        remedy = "Ask again with --retry-dead, or ask the publisher."
        self.findings += [
            Finding("warning", problem, detail, path, remedy=remedy) for path in target.results
        ]


def _wanted(path: str, only: Sequence[str]) -> bool:
    name = path.rpartition("/")[2].lower()
    return not only or any(fnmatch(name, pattern.lower()) for pattern in only)
