
# The names of tokens, from the running daemon, where one belongs; all else as above.
_tokenkeep_or_names() {
    local names
    _tokenkeep "$@"
    if names="$(command tokenkeep complete-names -- "${COMP_LINE:0:COMP_POINT}" "$2" 2>/dev/null)"; then
        # A file's name is no token's.
        compopt +o bashdefault +o default
        COMPREPLY=()
        if [[ -n "$names" ]]; then
            mapfile -t COMPREPLY <<<"$names"
        fi
    fi
}

complete -F _tokenkeep_or_names -o nosort -o bashdefault -o default tokenkeep 2>/dev/null ||
    complete -F _tokenkeep_or_names -o bashdefault -o default tokenkeep
