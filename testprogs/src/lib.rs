//! Nothing of its own: the programs are the examples of this package.
