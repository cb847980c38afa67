//! Tests of a replica as the specification reads.
