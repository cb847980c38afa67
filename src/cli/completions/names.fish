
# The names of tokens, from the running daemon, where one belongs.
complete -c tokenkeep -n 'command tokenkeep complete-names --place -- (commandline -cp) 2>/dev/null' -f -a '(command tokenkeep complete-names -- (commandline -cp) 2>/dev/null)'
