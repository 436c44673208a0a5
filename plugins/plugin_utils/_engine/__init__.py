# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The engine. It knows nothing of Ansible but what ansible-vault is. Imports between its rooms go down only: upkeep, config,
rotation, leases, definitions, mount, clocks, store, openai, run, and last names, durations and errors."""
