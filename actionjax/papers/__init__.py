"""The papers' recipes, one module a paper, with the figures they report; configs choose here."""
