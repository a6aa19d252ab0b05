from tests.api.conftest import api, make_task

__all__ = ["api", "make_task"]
