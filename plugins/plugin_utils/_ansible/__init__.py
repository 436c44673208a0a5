# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The side that faces Ansible: arguments, settings and results. It holds no rule about credentials."""

from __future__ import annotations

from ansible.release import __version__

from .version import check_version

# Here, since it is what all plugins import first: the rest cannot be imported by the releases that are refused.
check_version(__version__)
