"""A peer-to-peer network that serves specialised language models and pays the people who made them good.

The repository is the package: installed, this folder is `commonlore` and `peer/` is `commonlore.peer`.
"""
