#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
#
# For ansible-test integration: the main job from end to end, against the double.
set -euo pipefail

export OPENAI_CREDS_TEST_COLLECTIONS=$ANSIBLE_COLLECTIONS_PATH
exec python "$ANSIBLE_COLLECTIONS_PATH/ansible_collections/ephemeral/openai/tests/demo.py"
