# bash completion for realtorbot-relay
_realtorbot_relay() {
    local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]} command=serve word
    COMPREPLY=()
    for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
        case $word in
        serve | check | route | schema | doctor | status | pause | resume | replay | failed | discard | events | reload | backup | restore | test | listen | send | verify | version | help)
            command=$word
            break
            ;;
        esac
    done
    case $previous in
    -config | --config | -backup | --backup)
        compopt -o filenames 2>/dev/null
        mapfile -t COMPREPLY < <(compgen -f -- "$current")
        return
        ;;
    -type | --type)
        mapfile -t COMPREPLY < <(compgen -W "bot.created bot.updated bot.activated bot.deactivated conversation.started
            conversation.message conversation.ended lead.created lead.qualified lead.scored appointment.scheduled
            appointment.rescheduled appointment.cancelled appointment.completed email.received email.sent email.opened
            email.clicked test" -- "$current")
        return
        ;;
    esac
    local words
    case $command in
    serve | check | route | backup) words="-config" ;;
    doctor) words="-config -backup" ;;
    restore) words="-config"
        if [[ $current != -* ]]; then
            compopt -o filenames 2>/dev/null
            mapfile -t COMPREPLY < <(compgen -f -- "$current")
            return
        fi
        ;;
    status | pause | resume) words="-config -json" ;;
    replay) words="-config -json -failed -since -until -type -class -bin -rate -dry-run -list -cancel" ;;
    discard) words="-config -json -failed -since -until -type -class -bin" ;;
    failed) words="-config -json -since -until -type -class -bin -limit -after" ;;
    events) words="-config -json -since -until -type -status -endpoint -source -match -limit -after" ;;
    reload) words="-config -json -dry-run -strict" ;;
    test) words="-config -json -conformance" ;;
    listen) words="-addr -secret -fail -delay -status -from -token -types -all -forward" ;;
    send) words="-type -data -url -token -secret -id" ;;
    help) words="install configure post receive develop operate routes alerts log runbook proxies schedules names guarantees damage backup security measured inside" ;;
    verify) words="-secret -previous-secret -header -id -timestamp" ;;
    esac
    if [ "$COMP_CWORD" = 1 ]; then words="serve check route schema doctor status pause resume replay failed discard events reload backup restore test listen send verify version help $words"; fi
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
}
complete -F _realtorbot_relay realtorbot-relay
