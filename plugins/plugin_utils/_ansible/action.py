# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What all actions share: arguments in, one call of the engine, a result out."""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase

from .._engine.definitions.change import Outcome
from .._engine.errors import OpenAICredsError, mask_keys, unless_done
from .._engine.metrics.api_errors import record_api_errors
from .._engine.mount import Mount
from .._engine.run.progress import Progress
from .._engine.store.base import Data
from .._engine.store.vault_login import SECRETS
from .open_mount import ignoring_output_errors, open_mount
from .options import DOCUMENTED, NAMES, resolve
from .sources import is_blank, load_yaml
from .task_environment import task_environment

_SPEC_KEYS = ("type", "required", "default", "choices", "elements", "aliases")
_NO_LOG = SECRETS | {"admin_api_key"}


def argument_spec(documentation: str) -> dict[str, t.Any]:
    """Return the argument specification that a module's documentation describes, with the options of the store."""
    options = {**DOCUMENTED, **load_yaml(documentation).get("options", {})}
    return {
        name: {key: option[key] for key in _SPEC_KEYS if key in option} | ({"no_log": True} if name in _NO_LOG else {})
        for name, option in options.items()
    }


class OpenAIAction(ActionBase):
    """An action whose module only holds its documentation."""

    TRANSFERS_FILES = False
    #: The documentation of the module, which the arguments are checked against.
    DOCUMENTATION: t.ClassVar[str]
    MUTUALLY_EXCLUSIVE: t.ClassVar[t.Sequence[t.Sequence[str]]] = ()
    REQUIRED_ONE_OF: t.ClassVar[t.Sequence[t.Sequence[str]]] = ()
    REQUIRED_IF: t.ClassVar[t.Sequence[t.Sequence[t.Any]]] = ()
    #: What the info module returns and no option takes. It says nothing here, so that what that returns can be put back.
    ONLY_RETURNED: t.ClassVar[frozenset[str]] = frozenset()

    _argument_spec: t.ClassVar[dict[str, t.Any]]
    _nulls: set[str]

    def __init_subclass__(cls) -> None:
        # Ansible loads the class before it forks a worker per task, so this is done once per run.
        cls._argument_spec = argument_spec(cls.DOCUMENTATION)

    def act(self, mount: Mount, args: Data) -> Data:
        """Do the task; returns its result."""
        raise NotImplementedError

    def open_mount(self, args: Data) -> Mount:
        """Return the mount that other arguments than the task's own describe."""
        return open_mount(resolve(args, self._variables, self._templar.template))

    @property
    def check_mode(self) -> bool:
        return bool(self._task.check_mode)

    def given(self, args: Data, *options: str) -> Data:
        """Return those of these options that the task gives, without the documented defaults of the others."""
        return {option: args[option] for option in options if option in self._task.args}

    def defaults(self, *options: str) -> Data:
        """Return the documented defaults of these options."""
        return {option: self._argument_spec[option]["default"] for option in options}

    def unconfigured(self, mount: Mount) -> list[str]:
        """Return a warning if the mount has no admin key, for check mode, in which an earlier task may have given it one."""
        if mount.definitions("config"):
            return []
        return [unless_done(mount.unconfigured())]

    def run(self, tmp: t.Any = None, task_vars: t.Any = None) -> Data:
        result = self._run(tmp, task_vars)
        # Messages quote what a user gave, Ansible's own on its arguments too.
        if "msg" in result:
            result["msg"] = mask_keys(result["msg"])
        if "warnings" in result:
            result["warnings"] = [mask_keys(warning) for warning in result["warnings"]]
        return result

    def _run(self, tmp: t.Any, task_vars: t.Any) -> Data:
        if self._task.async_val:
            msg = (
                f"async: {self._task.action} runs on the controller and cannot go on in the background; leave async out"
            )
            return {"failed": True, "changed": False, "msg": msg}
        super().run(tmp, task_vars)
        # A null is an option that is not given, as info modules and empty fields of a form give them.
        self._nulls = {option for option, value in self._task.args.items() if value is None}
        self._task.args = {option: value for option, value in self._task.args.items() if value is not None}
        try:
            self._variables = task_vars or {}
            args = self._arguments()
            with task_environment(self._task.environment, self._templar.template):
                self.settings = resolve(args, self._variables, self._templar.template)
                mount = open_mount(self.settings)
                mount.progress = Progress(ignoring_output_errors(self._show_progress))
                try:
                    return {"changed": False, **self.act(mount, args)}
                finally:
                    if not self.check_mode:
                        record_api_errors(mount)
        except (OpenAICredsError, AnsibleError) as error:
            # Ansible's own sentence on unknown options has the name of the Python module in it.
            msg = str(error).replace(f"({self._load_name})", f"({self._task.action})")
            return {"failed": True, "changed": False, "msg": msg}
        except Exception as error:  # noqa: BLE001
            return {"failed": True, "changed": False, "msg": unexpected(error)}

    def _show_progress(self, line: str) -> None:
        """Show how far the task has come: on stderr, since what reads a run's stdout may expect JSON there."""
        host = self._variables.get("inventory_hostname", "localhost")
        where = "" if host == "localhost" else f" [{host}]"
        module = self._task.action.rpartition(".")[2]
        self._display.display(mask_keys(f"{module}{where}: {line}"), stderr=True)

    def _arguments(self) -> Data:
        """Return the task's arguments, checked against the documentation."""
        blank = {name for name, value in self._task.args.items() if name in NAMES and is_blank(value)}
        ignored = blank | self.ONLY_RETURNED
        given = self._task.args = {name: value for name, value in self._task.args.items() if name not in ignored}
        _validated, args = self.validate_argument_spec(
            self._argument_spec, self.MUTUALLY_EXCLUSIVE, None, self.REQUIRED_ONE_OF, self.REQUIRED_IF
        )
        # Ansible leaves in a path what it cannot replace. It is replaced where settings are made, which says so.
        return {**args, **{name: given[name] for name in NAMES & given.keys()}}

    def outcome(self, outcome: Outcome) -> Data:
        """Return the parts of a result that every change of a definition has."""
        result: Data = {"changed": outcome.changed}
        if outcome.warnings:
            result["warnings"] = list(outcome.warnings)
        if self._task.diff:
            result["diff"] = {"before": outcome.before or {}, "after": outcome.after or {}}
        return result


def unexpected(error: Exception) -> str:
    """Return a sentence on an error of ours, without its text, which might quote a secret."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = f" in {trace.tb_frame.f_code.co_name}, line {trace.tb_lineno}" if trace else ""
    return f"this is a defect of ephemeral.openai, please report it: {type(error).__name__}{where}"
