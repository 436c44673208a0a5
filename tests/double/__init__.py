# SPDX-License-Identifier: GPL-3.0-or-later
"""A test double of the OpenAI Admin API, run as a process of its own: ``python -m double``.

Test equipment only. Tests start it with ``double.client.Double``, which needs the standard library alone; the server
side needs aiohttp. The README beside this file tells how to use it.
"""
