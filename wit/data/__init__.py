"""Rows in, token ids with roles out: sources, shapes, templates, tokenising, collating."""
