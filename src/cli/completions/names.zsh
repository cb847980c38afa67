# The names of tokens, from the running daemon.
_tokenkeep_names() {
    local names
    local -a tokens
    names="$(command tokenkeep complete-names -- "$tokenkeep_words $QIPREFIX$PREFIX" 2>/dev/null)"
    [[ -n "$names" ]] || return 1
    tokens=("${(@f)names}")
    compadd -a tokens
}

