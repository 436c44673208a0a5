# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a lease adds to the procedure that makes things (see journal.making).

Its intent keeps no key, so what was interrupted is taken back. It is committed when the lease is on record; the intent of a
lookup's lease stays behind as the run's claim on it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import threading
import time
import typing as t

from ..clocks import FAR_SECONDS
from ..errors import ApiError, OpenAICredsError, StoreError, UnreadableError
from ..journal.making import Made, Making, NotBegun, NotMade, Overtaken, Uncertain
from ..journal.owners import GRACE_SECONDS, this_owner
from ..journal.things import end_thing
from ..mount import Mount
from ..store.base import MOVED, Stored
from .claims import spent, write_if_unchanged
from .counts import count_unrecorded
from .intents import Claim, Failure, Intent, intents_in
from .lease import ISSUED_VERSION, Lease, lease_path, read_lease

if t.TYPE_CHECKING:
    from ..openai.client import NewKey, OpenAI

#: Times in answers are whole seconds, and a second may begin while OpenAI makes a key.
_ROUNDING_SECONDS = 2


class LeaseMaking(Making):
    """One issue of a lease, by this process or left by another one."""

    def __init__(
        self,
        mount: Mount,
        lease: Lease,
        intent: Stored[Intent],
        *,
        keep_key: bool = False,
        calls: threading.Semaphore | None = None,
    ) -> None:
        self.mount = mount
        self.lease = lease
        self.subject = lease.lease_id
        self.thing = lease.thing
        self.what = "API key" if lease.api_key_name else "service account"
        self.failed = "API key creation failed" if lease.api_key_name else "service account creation failed"
        self.owner = this_owner(lease.lease_id, mount.now())
        self.ends_at = lease.expires_at
        self.intent = intent
        self._keep_key = keep_key
        self._calls = calls or contextlib.nullcontext()
        self._began = mount.clock()
        self._begun = time.monotonic()
        #: For how many seconds the key was asked to live; None for no end.
        self._asked: int | None = None

    def begin(self) -> None:
        intent = dataclasses.replace(self.intent.value, owner=self.owner)
        try:
            self._write(intent)
        except UnreadableError:
            # A claim has a place of its own, others are kept together with some that cannot be read.
            if not intent.claim:
                self._check_writable(self.intent.path)
            raise

    def check(self) -> None:
        self._check_writable(lease_path(self.lease.lease_id))

    def _check_writable(self, path: str) -> None:
        try:
            self.mount.store.check_writable(path)
        except UnreadableError as error:
            # Another try takes another place in the store.
            raise NotBegun(str(error)) from None

    def create(self, client: OpenAI) -> Made:
        # While OpenAI works.
        self.mount.store.prepare(writes=1)
        with self._calls:
            return self._create(client)

    def _create(self, client: OpenAI) -> Made:
        # The next second may have begun since; only more than that is taken off.
        late = int(time.monotonic() - self._begun)
        lease = self.lease
        self._asked = max(1, lease.duration - (late if late > 1 else 0)) if lease.native_expiry else None
        if lease.api_key_name:
            account_id = str(lease.service_account_id)
            key = self._create_key(client, account_id, lease.api_key_name)
        else:
            account_id, key = client.create_service_account(lease.project_id, lease.service_account, self._asked)
        self.lease = dataclasses.replace(lease, service_account_id=account_id, api_key_id=key.id)
        return Made(self.lease.thing, key)

    def _create_key(self, client: OpenAI, account_id: str, name: str) -> NewKey:
        project_id = self.lease.project_id
        try:
            return client.create_account_key(project_id, account_id, name, self._asked, self.lease.scopes)
        except ApiError as error:
            if error.status != 404:
                raise
            way_out = "give openai_role one that is"
            if self.lease.static_role:
                way_out = (
                    "give openai_static_role one that is, or rotation_strategy: new_account, and run openai_static_creds with "
                    "rotate: always"
                )
            raise ApiError(
                f"service_account_id: {account_id} is not, or no longer, an account of {project_id}; {way_out}: {error}",
                status=404,
            ) from None

    def accept(self, client: OpenAI, made: Made) -> None:
        """Limit the key to its scopes and its end, and the lease to what OpenAI says of that.

        OpenAI's clock counts, since it ends the key.
        """
        key, asked = made.key, self._asked
        created = self.mount.now() if key.created_at is None else key.created_at
        answered = time.monotonic()
        end = key.expires_at
        # A gateway may have dropped what was asked for.
        unlimited = asked is not None and (end is None or end - created > asked + _ROUNDING_SECONDS)
        # A key of an account was made with them.
        scopes = None if self.lease.api_key_name else self.lease.scopes
        if scopes or unlimited:
            what = "its end" if unlimited else "its scopes"
            try:
                with self._calls:
                    changed_end = client.update_key(
                        self.lease.project_id,
                        key.id,
                        expires_in=asked if unlimited else None,
                        scopes=scopes or None,
                    )
            except ApiError as error:
                raise OpenAICredsError(f"API key creation failed: it could not be limited to {what}: {error}") from None
            end = changed_end if unlimited else end
        if asked is None:
            # A policy of the organization may end the key earlier.
            end = min(created + self.lease.duration, sys.maxsize if end is None else end)
        elif end is None or end - created > asked + FAR_SECONDS + time.monotonic() - answered:
            raise OpenAICredsError(
                "API key creation failed: native_expiry: OpenAI, or a gateway on the way, does not end the key when asked to"
            )
        self._set_times(created, end)

    def _set_times(self, created: int, end: int) -> None:
        """Let the lease end when its key does."""
        lease, planned = self.lease, self.lease.expires_at
        # So that other processes here need not ask OpenAI what time it is.
        clock = self.mount.far_clock
        longest_after = FAR_SECONDS if not lease.native_expiry else _ROUNDING_SECONDS
        if planned - FAR_SECONDS <= end <= planned + longest_after:
            # Nearly as planned: the due time that stands in the lease's name still does.
            ends = min(planned, end) if lease.native_expiry else planned
            self.lease = dataclasses.replace(lease, expires_at=ends, clock=clock)
            return
        self.ends_at = end
        self.lease = dataclasses.replace(
            lease,
            issued_at=created,
            expires_at=end,
            max_expires_at=lease.max_expires_at + created - lease.issued_at,
            duration=min(lease.duration, end - created),
            clock=clock,
        )

    def commit(self, made: Made) -> None:
        claim = self.intent.value.claim
        if claim:
            self.lease = dataclasses.replace(self.lease, claim=self.intent.path)
        if self._keep_key or (claim and claim.shared):
            # Others have the key from the lease.
            self.lease = dataclasses.replace(self.lease, api_key=made.key.value)
        try:
            self.mount.store.write(self.lease.write(due=self.ends_at))
        except StoreError as error:
            if not error.may_have_happened:
                raise
            # A run may be given the key by then, so only a record that is certainly there settles it.
            recorded = None
            with contextlib.suppress(StoreError):
                recorded = read_lease(self.mount, self.lease.lease_id)
            if recorded is None:
                raise self._uncertain(error) from None
        self.check_owner()

    def check_owner(self) -> None:
        """Raise Overtaken if somebody has taken this process for dead, or revokes the lease.

        Whoever takes over looks for the lease after taking the intent, and this one for the intent after writing the lease,
        so one of them sees the other.
        """
        try:
            current = self.mount.store.read(self.intent.path)
        except StoreError as error:
            raise self._uncertain(error) from None
        intent = next(intents_in([current])).value if current and current.version == self.intent.version else None
        # A claim that was forgotten, and made anew for another lease, has the same versions again.
        if intent is None or intent.lease is None or intent.lease.lease_id != self.lease.lease_id:
            raise Overtaken(
                f"{self.thing.name}: openai_lease has revoked it, or a cleanup has taken it over, while it was being issued; "
                "try again"
            )

    def _uncertain(self, error: StoreError) -> Uncertain:
        return Uncertain(f"{error}; {self.thing.name} may exist at OpenAI, the next openai_cleanup looks for it")

    def finish(self) -> None:
        if not self.intent.value.claim:
            # The lease is on record; an intent that stays is dropped by the next cleanup.
            with contextlib.suppress(StoreError):
                self.mount.store.delete(self.intent.path)

    def take_over(self) -> bool:
        """Fence whoever was at it: an issuer that is fenced takes its credential back, so nobody may be given what it still
        writes."""
        claim = self.intent.value.claim
        claim = claim and dataclasses.replace(claim, failure=None)
        self._write(dataclasses.replace(self.intent.value, owner=self.owner, taken=True, claim=claim))
        if read_lease(self.mount, self.lease.lease_id) is None:
            return True
        self.clear()
        return False

    def made(self) -> None:
        return None

    def clear(self, why: OpenAICredsError | None = None) -> None:
        claim = self.intent.value.claim
        if not claim or not claim.shared:
            self.mount.store.delete(self.intent.path)
            return
        failure = self.failure(why) if why else None
        intent = spent(self.intent.value, self.mount.now(), failure)
        write_if_unchanged(self.mount, intent.write(self.intent.path, self.intent.version))

    def abandon(self, why: OpenAICredsError | None = None) -> None:
        claim = self.intent.value.claim
        claim = claim and dataclasses.replace(claim, failure=self.failure(why) if why else None)
        intent = dataclasses.replace(self.intent.value, owner=None, claim=claim)
        with contextlib.suppress(OpenAICredsError):  # then it is taken over when this process has ended
            self._write(intent)

    def taken_back(self) -> None:
        count_unrecorded(self.mount, self.lease.lease_id)

    def withdraw(self, client: OpenAI, made: Made, why: OpenAICredsError) -> t.NoReturn:
        self.taken_back()
        try:
            end_thing(client, made.thing)
        except OpenAICredsError as second:
            left = OpenAICredsError(
                f"{why}; {self.thing.name} may exist at OpenAI, the next openai_cleanup looks for it ({second})"
            )
            self.abandon(left)
            raise left from None
        removed = OpenAICredsError(f"{why}; the {self.what} was removed again")
        try:
            self.mount.store.delete(lease_path(self.lease.lease_id))
            self.clear(removed)
        except OpenAICredsError as second:
            recorded = OpenAICredsError(
                f"{why}; the {self.what} was removed again, and the next openai_cleanup removes its record ({second})"
            )
            self.abandon(recorded)
            raise recorded from None
        raise removed

    def gives_way(self, client: OpenAI, made: Made, why: Overtaken) -> t.NoReturn:
        """Take the credential back, unless whoever has taken over goes on with it (see leases.find.adopt)."""
        if self._has_moved():
            # There the record of the lease accounts for it.
            raise why
        if self._keep_key:
            try:
                self.mount.store.write(self.lease.for_ending(self.owner).write(ISSUED_VERSION))
            except StoreError:
                # Theirs, or ended by them; if the store does not work, they or a cleanup see to it.
                raise why from None
        self.withdraw(client, made, why)

    def _has_moved(self) -> bool:
        try:
            self.mount.check_is_here()
        except StoreError:
            return False
        except OpenAICredsError:
            # A lease that was written too late to be moved is still here.
            with contextlib.suppress(StoreError):
                found = self.mount.store.read(lease_path(self.lease.lease_id))
                return found is None or MOVED in found.data
        return False

    def failure(self, why: OpenAICredsError, unanswered_since: float | None = None) -> Failure:
        """Return the record of why the issue came to nothing, for those of the run who wait for its lease.

        Where OpenAI did not answer, it also holds for whoever asks until as much time has passed as that took: else the hosts
        of a run would wait for that one after the other. unanswered_since is what the mount's clock said when that began, if
        that was before this issue.
        """
        now = self.mount.now()
        if (isinstance(why, ApiError) and why.status is None) or (isinstance(why, NotMade) and not why.answered):
            unanswered_since = self._began
        # By the mount's clock, and not OpenAI's time, which may have become known since.
        until = 0 if unanswered_since is None else now + int(self.mount.clock() - unanswered_since)
        return Failure(self.lease.lease_id, str(why), now, until)

    def _write(self, intent: Intent) -> None:
        self.mount.store.write(intent.write(self.intent.path, self.intent.version))
        self.intent = Stored(intent, self.intent.path, self.intent.version + 1)


def left_issue(mount: Mount, intent: Stored[Intent]) -> LeaseMaking:
    """Return an issue that was left, to be recovered."""
    return LeaseMaking(mount, t.cast(Lease, intent.value.lease), intent)


def new_intent(mount: Mount, lease: Lease, claim: Claim | None) -> Intent:
    """Return the intent of a new lease. A claim is looked at when its issue must have ended, if its run cannot be seen."""
    now = mount.now()
    return Intent(lease=lease, created_at=now, claim=claim, due=now + GRACE_SECONDS if claim else 0)
