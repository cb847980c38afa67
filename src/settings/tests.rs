//! The configuration as a whole, from files to settings.
