"""The contract of the job stores tells what it found where it fails."""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite("tests.jobs.contract")
