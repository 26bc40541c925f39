"""Datanets: published, pulled, searched for a question, withdrawn."""
