"""The questions: each is a captured graph read over some domains, put together as a result."""
