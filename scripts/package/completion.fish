# fish completion for realtorbot-relay
set -l relay realtorbot-relay
set -l commands serve check route schema doctor status pause resume replay failed discard events reload backup restore test listen send verify version help
set -l types bot.{created,updated,activated,deactivated} conversation.{started,message,ended} lead.{created,qualified,scored} \
    appointment.{scheduled,rescheduled,cancelled,completed} email.{received,sent,opened,clicked} test
set -l none "not __fish_seen_subcommand_from $commands"

complete -c $relay -f
complete -c $relay -n $none -a serve -d 'receive, keep and deliver events'
complete -c $relay -n $none -a check -d 'validate a configuration'
complete -c $relay -n $none -a route -d 'say where an event would go'
complete -c $relay -n $none -a schema -d 'print the JSON Schema of the configuration'
complete -c $relay -n $none -a doctor -d 'look at machine and relay, say what to do'
complete -c $relay -n $none -a status -d 'how the relay is, and each endpoint'
complete -c $relay -n $none -a pause -d 'hold an endpoint'
complete -c $relay -n $none -a resume -d 'let an endpoint go on'
complete -c $relay -n $none -a replay -d 'deliver again'
complete -c $relay -n $none -a failed -d 'failed deliveries of an endpoint'
complete -c $relay -n $none -a discard -d 'delete for good what is left of an endpoint'
complete -c $relay -n $none -a events -d 'find events; the story of one'
complete -c $relay -n $none -a reload -d 'read the configuration file again'
complete -c $relay -n $none -a backup -d 'a copy of the queue as it is'
complete -c $relay -n $none -a restore -d 'make a queue of a backup'
complete -c $relay -n $none -a test -d 'send the test event once'
complete -c $relay -n $none -a listen -d 'a local receiver that shows what arrives'
complete -c $relay -n $none -a send -d 'post one event to a relay'
complete -c $relay -n $none -a verify -d 'say whether a signature matches'
complete -c $relay -n $none -a version -d 'print the version'
complete -c $relay -n $none -a help -d 'what there is, or a page of the manual'
complete -c $relay -n "__fish_seen_subcommand_from help" -a 'install configure post receive develop operate routes alerts log runbook proxies schedules names guarantees damage backup security measured inside'

complete -c $relay -n "$none; or __fish_seen_subcommand_from serve check route" -o config -r -F -d 'the configuration'

set -l on "__fish_seen_subcommand_from doctor"
complete -c $relay -n $on -o config -r -F -d 'the configuration'
complete -c $relay -n $on -o backup -r -F -d 'look at this backup'

set -l on "__fish_seen_subcommand_from backup"
complete -c $relay -n $on -o config -r -F -d 'the configuration'

set -l on "__fish_seen_subcommand_from restore"
complete -c $relay -n $on -F
complete -c $relay -n $on -o config -r -F -d 'the configuration'

set -l on "__fish_seen_subcommand_from status pause resume"
complete -c $relay -n $on -o config -r -F -d 'the configuration'
complete -c $relay -n $on -o json -d 'the answer as it came'

set -l on "__fish_seen_subcommand_from replay"
complete -c $relay -n $on -o config -r -F -d 'the configuration'
complete -c $relay -n $on -o json -d 'the answer as it came'
complete -c $relay -n $on -o failed -d 'what failed'
complete -c $relay -n $on -o since -x -d 'from this time on, as in 2h'
complete -c $relay -n $on -o until -x -d 'before this time'
complete -c $relay -n $on -o type -x -a "$types" -d 'of these types'
complete -c $relay -n $on -o class -x -d 'failed with this class'
complete -c $relay -n $on -o bin -x -d 'refused, unreached, expired or unreadable'
complete -c $relay -n $on -o rate -x -d 'at most so many attempts a second'
complete -c $relay -n $on -o dry-run -d 'only say what would be done'
complete -c $relay -n $on -o list -d 'only list the replays'
complete -c $relay -n $on -o cancel -x -d 'cancel this replay'

set -l on "__fish_seen_subcommand_from discard"
complete -c $relay -n $on -o config -r -F -d 'the configuration'
complete -c $relay -n $on -o json -d 'the answer as it came'
complete -c $relay -n $on -o failed -d 'failed deliveries'
complete -c $relay -n $on -o since -x -d 'from this time on, as in 2h'
complete -c $relay -n $on -o until -x -d 'before this time'
complete -c $relay -n $on -o type -x -a "$types" -d 'of these types'
complete -c $relay -n $on -o class -x -d 'failed with this class'
complete -c $relay -n $on -o bin -x -d 'refused, unreached, expired or unreadable'

set -l on "__fish_seen_subcommand_from failed"
complete -c $relay -n $on -o config -r -F -d 'the configuration'
complete -c $relay -n $on -o json -d 'the answer as it came'
complete -c $relay -n $on -o since -x -d 'from this time on, as in 2h'
complete -c $relay -n $on -o until -x -d 'before this time'
complete -c $relay -n $on -o type -x -a "$types" -d 'of these types'
complete -c $relay -n $on -o class -x -d 'failed with this class'
complete -c $relay -n $on -o bin -x -d 'refused, unreached, expired or unreadable'
complete -c $relay -n $on -o limit -x -d 'at most so many'
complete -c $relay -n $on -o after -x -d 'behind the page that ended there'

set -l on "__fish_seen_subcommand_from events"
complete -c $relay -n $on -o config -r -F -d 'the configuration'
complete -c $relay -n $on -o json -d 'the answer as it came'
complete -c $relay -n $on -o since -x -d 'from this time on, as in 2h'
complete -c $relay -n $on -o until -x -d 'before this time'
complete -c $relay -n $on -o type -x -a "$types" -d 'of these types'
complete -c $relay -n $on -o source -x -d 'of this source'
complete -c $relay -n $on -o match -x -d 'of which this member is so, as in data.accountId=acct_42'
complete -c $relay -n $on -o status -x -d 'in this state at an endpoint'
complete -c $relay -n $on -o endpoint -x -d 'for this endpoint'
complete -c $relay -n $on -o limit -x -d 'at most so many'
complete -c $relay -n $on -o after -x -d 'behind the page that ended there'

set -l on "__fish_seen_subcommand_from reload"
complete -c $relay -n $on -o config -r -F -d 'the configuration'
complete -c $relay -n $on -o json -d 'the answer as it came'
complete -c $relay -n $on -o dry-run -d 'only say what would be done'
complete -c $relay -n $on -o strict -d 'change nothing if an included file is broken'

set -l on "__fish_seen_subcommand_from test"
complete -c $relay -n $on -o config -r -F -d 'the configuration'
complete -c $relay -n $on -o json -d 'the answer as it came'
complete -c $relay -n $on -o conformance -d 'check the receiver as well'

set -l on "__fish_seen_subcommand_from listen"
complete -c $relay -n $on -o addr -x -d 'host:port to listen on'
complete -c $relay -n $on -o secret -x -d 'secret to check or sign with'
complete -c $relay -n $on -o fail -x -d 'answer 500 to so many, as in 30%'
complete -c $relay -n $on -o delay -x -d 'wait before each answer'
complete -c $relay -n $on -o status -x -d 'answer with this'
complete -c $relay -n $on -o from -x -d 'take the events of this relay'
complete -c $relay -n $on -o token -x -d 'admin.token of the relay'
complete -c $relay -n $on -o types -x -a "$types" -d 'only these types'
complete -c $relay -n $on -o all -d 'begin with the oldest event'
complete -c $relay -n $on -o forward -x -d 'post each event to this URL'

set -l on "__fish_seen_subcommand_from send"
complete -c $relay -n $on -o type -x -a "$types" -d 'event type'
complete -c $relay -n $on -o data -x -d 'JSON object, - or @file'
complete -c $relay -n $on -o url -x -d 'intake of the relay'
complete -c $relay -n $on -o token -x -d 'bearer token of the source'
complete -c $relay -n $on -o secret -x -d 'signs the event'
complete -c $relay -n $on -o id -x -d 'event id'

set -l on "__fish_seen_subcommand_from verify"
complete -c $relay -n $on -o secret -x -d 'secret'
complete -c $relay -n $on -o previous-secret -x -d 'secret while rotating'
complete -c $relay -n $on -o header -x -d 'value of the signature'
complete -c $relay -n $on -o id -x -d 'value of webhook-id'
complete -c $relay -n $on -o timestamp -x -d 'value of webhook-timestamp'
