//! What only the composition of roles can show.

mod hostile;
