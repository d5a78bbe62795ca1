"""The typed results of the stages, one file each: the only places of the names and forms of their files.

They are apart from the code that computes them, so that reading a result does not depend on that code. A result that
only later stages read may also be defined in the file of its stage.
"""
