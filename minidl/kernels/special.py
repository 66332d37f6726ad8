"""Functions that NumPy lacks."""

from __future__ import annotations

from ..backend import Array, array_module


def erf(x: Array) -> Array:
    """The error function, to 1e-15: rational approximations as in Cephes (Moshier), by |x| <= 1 or not."""
    xp = array_module(x)
    size = xp.minimum(xp.abs(x), 6.0)  # beyond 6 it is 1 to the last bit
    small = xp.minimum(size, 1.0)
    z = small * small
    inside = small * _polynomial(z, _ERF_P) / _polynomial(z, _ERF_Q)
    outside = 1 - xp.exp(-size * size) * _polynomial(size, _ERFC_P) / _polynomial(size, _ERFC_Q)
    return xp.sign(x) * xp.where(size <= 1, inside, outside)


def _polynomial(x: Array, coefficients: tuple[float, ...]) -> Array:
    """Horner's rule, highest power first."""
    y = coefficients[0]
    for c in coefficients[1:]:
        y = y * x + c
    return y


# fmt: off
_ERF_P = (9.60497373987051638749e0, 9.00260197203842689217e1, 2.23200534594684319226e3,
          7.00332514112805075473e3, 5.55923013010394962768e4)
_ERF_Q = (1.0, 3.35617141647503099647e1, 5.21357949780152679795e2, 4.59432382970980127987e3,
          2.26290000613890934246e4, 4.92673942608635921086e4)
_ERFC_P = (2.46196981473530512524e-10, 5.64189564831068821977e-1, 7.46321056442269912687e0,
           4.86371970985681366614e1, 1.96520832956077098242e2, 5.26445194995477358631e2,
           9.34528527171957607540e2, 1.02755188689515710272e3, 5.57535335369399327526e2)
_ERFC_Q = (1.0, 1.32281951154744992508e1, 8.67072140885989742329e1, 3.54937778887819891062e2,
           9.75708501743205489753e2, 1.82390916687909736289e3, 2.24633760818710981792e3,
           1.65666309194161350182e3, 5.57535340817727675546e2)
# fmt: on
