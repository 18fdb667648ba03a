"""The figures of the paper, drawn from stored runs, as PNG and SVG.

All are made for a journal's columns: 3.3 in (single) or 6.8 in (double), text of 7 to 9 pt. The
colours are those of Okabe and Ito, which colour-blind readers tell apart; lines differ by dash
and marker, too. The same runs give the same files, byte for byte.

Nothing is imported here: the modules that draw load seaborn, and pyplot with it.
"""
