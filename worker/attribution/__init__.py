"""Whose data shaped an answer: gradient sketches of rows and answers; the integer arithmetic is in
`protocol.attribution.scoring`.
"""
