# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A mount: one organization's worth of state, and all that the domain needs to work on it."""

from __future__ import annotations

import collections.abc
import contextlib
import dataclasses
import queue
import time
import typing as t
from functools import partial

from .clocks import Comparison, compare
from .errors import ApiFailure, OpenAICredsError
from .mount_config import MountConfig, read_config
from .run.progress import Progress
from .sections import fold, unfold
from .store.base import Data, Document, Store
from .store.changing import change_document
from .store.combining import Combiner

if t.TYPE_CHECKING:
    from .openai.client import OpenAI

DEFINITIONS = "definitions"

_Change = t.Callable[[Data], bool]


def _silent(_line: str) -> None:
    pass


@dataclasses.dataclass
class Mount:
    """Where state is (store) and who asks (issued_by). log gets a line per call, warn what a person should know, progress how
    far long work has come.

    What users define (the config with the admin key, projects, roles) is one document, so that it is read at once and
    a project cannot be deleted while somebody begins to use it.
    """

    name: str
    store: Store
    issued_by: dict[str, str] = dataclasses.field(default_factory=dict)
    log: t.Callable[[str], None] = _silent
    warn: t.Callable[[str], None] = _silent
    clock: t.Callable[[], float] = time.time
    progress: Progress = dataclasses.field(default_factory=Progress)
    _client: tuple[tuple[str, str, str | None], OpenAI] | None = dataclasses.field(default=None, init=False, repr=False)
    _changes: Combiner[str, _Change, bool] = dataclasses.field(init=False, repr=False)
    _comparison: Comparison | None = dataclasses.field(default=None, init=False, repr=False)
    _api_errors: queue.SimpleQueue[ApiFailure] = dataclasses.field(
        default_factory=queue.SimpleQueue, init=False, repr=False
    )

    def __post_init__(self) -> None:
        self._changes = Combiner(self._define)

    def now(self) -> int:
        """Return the Unix time in whole seconds: OpenAI's, if this machine's clock is known to be far from that."""
        clock = self.clock()
        compared = self._comparison
        ahead = compared.ahead if compared and compared.ahead and compared.holds(clock) else 0
        return int(clock - ahead)

    @property
    def far_clock(self) -> Comparison | None:
        """How this machine's clock compares with OpenAI's, if it is known to be far from that."""
        return self._comparison if self._comparison and self._comparison.ahead else None

    def recall_far_clock(self, comparison: Comparison) -> None:
        """Take over what another process has found, if it is about this machine's clock as it is set now."""
        if self._comparison is None and comparison.holds(self.clock()):
            self._comparison = comparison

    def learn_time(self) -> None:
        """Ask OpenAI what time it is, unless one of its answers has told already. Without an answer nothing changes."""
        if self._comparison is None or not self._comparison.holds(self.clock()):
            with contextlib.suppress(OpenAICredsError):
                self.openai().ask_time()

    def _hear_time(self, openai_time: float) -> None:
        comparison = compare(self.clock(), openai_time)
        if comparison.ahead and not self.far_clock:
            self.warn(comparison.warning())
        self._comparison = comparison

    def hear_api_error(self, failure: ApiFailure) -> None:
        """Keep in mind that OpenAI has refused a call, or not answered, until somebody takes that to count it."""
        self._api_errors.put(failure)

    def take_api_errors(self) -> list[ApiFailure]:
        """Return what calls to OpenAI have failed since this was asked last."""
        return [self._api_errors.get() for _unused in range(self._api_errors.qsize())]

    def all_definitions(self) -> Data:
        """Return the definitions by section (config, projects, roles, …); not to be changed by the caller."""
        document = self._document()
        return unfold(document.data) if document else {}

    def definitions(self, section: str) -> t.Mapping[str, t.Any]:
        """Return a section of the definitions; not to be changed by the caller."""
        return t.cast("t.Mapping[str, t.Any]", self.all_definitions().get(section, {}))

    def define(self, change: t.Callable[[Data], bool]) -> bool:
        """Apply a change to the definitions, again if somebody else was faster; returns whether it changed anything.

        change gets all sections, alters them in place and says whether it did; what it raises leaves them as they are.
        What threads change at the same time is one write.
        """
        return self._changes.change(DEFINITIONS, change)

    def _define(self, path: str, changes: list[_Change]) -> list[bool | BaseException]:
        outcomes: list[bool | BaseException] = []

        def changed(document: Document | None) -> Data | None:
            outcomes.clear()
            data = unfold(document.data) if document else {}
            for change in changes:
                altered = _copy(data)
                try:
                    outcomes.append(change(altered))
                except Exception as error:  # noqa: BLE001 - it is raised by whoever wanted the change
                    outcomes.append(error)
                    continue
                data = altered if outcomes[-1] else data
            return fold(data) if True in outcomes else None

        change_document(self.store, path, changed, self._document, f"mount {self.name}: its definitions")
        return outcomes

    def check_is_here(self) -> None:
        """Raise if the mount's state is in another store by now, or on its way there."""
        self._document()

    def _document(self) -> Document | None:
        document = self.store.read(DEFINITIONS)
        move = document.data.get("move") if document else None
        if move and move["done"]:
            raise OpenAICredsError(f"store: mount {self.name!r} has been moved to the store {move['to']}; use that one")
        if move:
            raise OpenAICredsError(
                f"store: mount {self.name!r} is being moved to the store {move['to']}; if that was interrupted, run the "
                "same openai_store_move again"
            )
        return document

    def config(self) -> MountConfig | None:
        """Return the config, or None if the mount has none."""
        return read_config(self.all_definitions())

    def check_configured(self, definitions: Data | None = None) -> MountConfig:
        """Return the config, or raise if the mount has no admin key. definitions are those that were just read, if they were."""
        config = read_config(self.all_definitions() if definitions is None else definitions)
        if config is None:
            raise self.unconfigured()
        return config

    def unconfigured(self) -> OpenAICredsError:
        """Return the error that says that the mount has no admin key, and where it was looked for."""
        return OpenAICredsError(
            f"OpenAI client not configured: mount {self.name!r} has no admin key in {self.store.place}; run "
            "openai_config first, or name the mount and the store that have one"
        )

    def openai(self, config: MountConfig | None = None) -> OpenAI:
        """Return a client with the mount's admin key. config is the one that was just read, if it was."""
        config = config or self.check_configured()
        access = (config.api_endpoint, config.admin_api_key, config.organization_id)
        known = self._client
        if known is None or known[0] != access:
            current_key = partial(self._current_key, config.api_endpoint)
            client = self.client_for(config, warn=self.warn, current_key=current_key, hear_time=self._hear_time)
            known = self._client = (access, client)
        return known[1]

    def client_for(self, config: MountConfig, **options: t.Any) -> OpenAI:
        """Return a client for a config that need not be the mount's; OpenAI says which options there are."""
        from .openai.client import OpenAI

        access = (config.api_endpoint, config.admin_api_key, config.organization_id)
        return OpenAI(*access, log=self.log, hear_error=self.hear_api_error, **options)

    def _current_key(self, endpoint: str) -> str | None:
        """Return the admin key as it is stored now, if it is for this endpoint."""
        config = self.config()
        return config.admin_api_key if config and config.api_endpoint == endpoint else None


def _copy(value: t.Any) -> t.Any:
    """Return a copy of JSON data whose objects can be changed."""
    if isinstance(value, collections.abc.Mapping):
        return {key: _copy(item) for key, item in value.items()}
    return list(value) if isinstance(value, list) else value
