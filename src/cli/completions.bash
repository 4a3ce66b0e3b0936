
# Bash takes a colon for a word of its own: ENGINE://NAME is put together for cntr, and offered from the last colon on.
_cntr() {
    if [[ $COMP_WORDBREAKS != *:* ]]; then
        _clap_complete_cntr "$@"
        return
    fi
    local -a words=()
    local line=$COMP_LINE current=$2 index=0 count=0 i word gap
    for ((i = 0; i < ${#COMP_WORDS[@]}; i++)); do
        word=${COMP_WORDS[i]}
        gap=$line
        [[ -n $word ]] && gap=${line%%"$word"*}
        line=${line#*"$word"}
        if ((count > 0)) && [[ -z $gap && ( $word == :* || ${words[count - 1]} == *: ) ]]; then
            if ((i == COMP_CWORD)); then
                # Right behind a colon what is completed is empty, and the word is the colon.
                [[ -z $current ]] && current=$word
                current=${words[count - 1]}$current
            fi
            words[count - 1]+=$word
        else
            words[count]=$word
            count=$((count + 1))
        fi
        ((i == COMP_CWORD)) && index=$((count - 1))
    done
    local -a COMP_WORDS=("${words[@]}")
    local COMP_CWORD=$index
    _clap_complete_cntr "$1" "$current" "${words[index > 0 ? index - 1 : 0]}"
    local offered=${current%"${current##*:}"}
    if [[ -n $offered ]]; then
        COMPREPLY=("${COMPREPLY[@]#"$offered"}")
    fi
}
