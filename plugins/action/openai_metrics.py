# -*- coding: utf-8 -*-
# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ansible_collections.ephemeral.openai.plugins.modules.openai_metrics import DOCUMENTATION
from ansible_collections.ephemeral.openai.plugins.plugin_utils._ansible.action import OpenAIAction
from ansible_collections.ephemeral.openai.plugins.plugin_utils._ansible.paths import expand_path
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.durations import parse_duration
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.errors import OpenAICredsError
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.metrics.exposition import (
    as_data,
    check_gateway,
    check_prometheus_client,
    push,
    write_textfile,
)
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.metrics.gauges import collect
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.mount import Mount
from ansible_collections.ephemeral.openai.plugins.plugin_utils._engine.store.base import Data

#: The Costs API takes no longer; a whole year is more than any dashboard of this asks for.
_LONGEST_WINDOW = 366 * 86400
_ENDING = ".prom"


class ActionModule(OpenAIAction):
    DOCUMENTATION = DOCUMENTATION

    def act(self, mount: Mount, args: Data) -> Data:
        textfile, gateway, job = args["textfile"], args["pushgateway"], args["job"]
        window = parse_duration(args["costs_window"], "costs_window")
        if window > _LONGEST_WINDOW:
            raise OpenAICredsError(
                f"costs_window: {args['costs_window']} is longer than {_LONGEST_WINDOW // 86400} days"
            )
        if textfile is not None:
            textfile = expand_path(textfile, "textfile", None)
            check_prometheus_client("textfile")
        if gateway is not None:
            check_gateway(gateway)
            check_prometheus_client("pushgateway")
            if not job.strip():
                raise OpenAICredsError(
                    "job: it is empty; give the name that the metrics are to have at the Pushgateway"
                )
        warnings = self.unconfigured(mount) if self.check_mode else []
        if not warnings:
            mount.check_configured()
        collected = collect(mount, window if args["costs"] and not warnings else None)
        warnings += collected.warnings
        if textfile is not None:
            if not textfile.endswith(_ENDING):
                warnings.append(f"textfile: node_exporter reads only files whose names end in {_ENDING}: {textfile}")
            if not self.check_mode:
                write_textfile(textfile, mount.name, collected.metrics)
        if gateway is not None and not self.check_mode:
            push(gateway, job, mount.name, collected.metrics)
        result: Data = {
            "changed": textfile is not None or gateway is not None,
            "metrics": as_data(mount.name, collected.metrics),
        }
        if warnings:
            result["warnings"] = warnings
        if collected.error:
            result.update(failed=True, msg=collected.error)
        return result
