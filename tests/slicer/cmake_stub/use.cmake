# Nothing: the stand-in has no compiler settings.
