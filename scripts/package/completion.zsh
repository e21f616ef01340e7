#compdef realtorbot-relay
# zsh completion for realtorbot-relay

local -a commands=(
    'serve:receive, keep and deliver events'
    'check:validate a configuration and say what it would do'
    'route:say where an event would go, and why not elsewhere'
    'schema:print the JSON Schema of the configuration, for editors'
    'doctor:look at machine and relay, say what to do'
    'status:how the relay is, and each endpoint'
    'pause:hold an endpoint'
    'resume:let an endpoint go on'
    'replay:deliver again'
    'failed:failed deliveries of an endpoint'
    'discard:delete for good what is left of an endpoint'
    'events:find events; the story of one'
    'reload:read the configuration file again'
    'backup:a copy of the queue as it is'
    'restore:make a queue of a backup'
    'test:send the test event once'
    'listen:a local receiver that shows what arrives'
    'send:post one event to a relay'
    'verify:say whether a signature matches and, if not, why'
    'version:print the version'
    'help:what there is, or a page of the manual'
)
local -a types=(
    bot.{created,updated,activated,deactivated} conversation.{started,message,ended} lead.{created,qualified,scored}
    appointment.{scheduled,rescheduled,cancelled,completed} email.{received,sent,opened,clicked} test
)
local config='-config[the configuration]:file:_files -g "*.toml"'

if (( CURRENT == 2 )) && [[ $words[2] != -* ]]; then
    _describe command commands
    return
fi
local command=$words[2]
case $command in
serve | check | route | schema | doctor | status | pause | resume | replay | failed | discard | events | reload | backup | restore | test | listen | send | verify | version | help) shift words; (( CURRENT-- )) ;;
*) command=serve ;;
esac
case $command in
serve | check | route | backup) _arguments $config ;;
doctor) _arguments $config '-backup[look at this backup]:file:_files' ;;
restore) _arguments $config ':backup:_files' ;;
status | pause | resume)
    _arguments $config '-json[the answer as it came]' '*:argument:'
    ;;
replay)
    _arguments $config '-json[the answer as it came]' '-failed[what failed]' '-since[from this time on, as in 2h]:time:' '-until[before this time]:time:' '-type[of these types]:types:_values -s , type $types' '-class[failed with this class]:class:' '-bin[refused, unreached, expired or unreadable]:reason:' '-rate[attempts a second]:n:' '-dry-run[only say what would be done]' '-list[only list the replays]' '-cancel[cancel this replay]:replay:' '*:argument:'
    ;;
discard)
    _arguments $config '-json[the answer as it came]' '-failed[failed deliveries]' '-since[from this time on, as in 2h]:time:' '-until[before this time]:time:' '-type[of these types]:types:_values -s , type $types' '-class[failed with this class]:class:' '-bin[refused, unreached, expired or unreadable]:reason:' '*:argument:'
    ;;
failed)
    _arguments $config '-json[the answer as it came]' '-since[from this time on, as in 2h]:time:' '-until[before this time]:time:' '-type[of these types]:types:_values -s , type $types' '-class[failed with this class]:class:' '-bin[refused, unreached, expired or unreadable]:reason:' '-limit[at most so many]:n:' '-after[behind the page that ended there]:cursor:' '*:argument:'
    ;;
events)
    _arguments $config '-json[the answer as it came]' '-since[from this time on, as in 2h]:time:' '-until[before this time]:time:' '-type[of these types]:types:_values -s , type $types' '-status[in this state at an endpoint]:state:' '-endpoint[for this endpoint]:endpoint:' '-source[of this source]:source:' '-match[of which this member is so]:member=value:' '-limit[at most so many]:n:' '-after[behind the page that ended there]:cursor:' '*:argument:'
    ;;
reload)
    _arguments $config '-json[the answer as it came]' '-dry-run[only say what would be done]' '-strict[change nothing if an included file is broken]' '*:argument:'
    ;;
test)
    _arguments $config '-json[the answer as it came]' '-conformance[check the receiver as well]' '*:argument:'
    ;;
listen)
    _arguments '-addr[host\:port to listen on]:address:' '-secret[secret to check or sign with]:secret:' \
        '-fail[answer 500 to so many]:percent, as in 30%:' '-delay[wait before each answer]:duration:' \
        '-status[answer with this]:status:' '-from[take the events of this relay]:url:_urls' \
        '-token[admin.token of the relay]:token:' '-types[only these types]:types:_values -s , type $types' \
        '-all[begin with the oldest event]' '-forward[post each event to]:url:_urls'
    ;;
send)
    _arguments "-type[event type]:type:($types)" '-data[JSON object, - or @file]:data:' '-url[intake of the relay]:url:_urls' \
        '-token[bearer token of the source]:token:' '-secret[signs the event]:secret:' '-id[event id]:id:'
    ;;
help) _arguments ':page:(install configure post receive develop operate routes alerts log runbook proxies schedules names guarantees damage backup security measured inside)' ;;
verify)
    _arguments '-secret[secret]:secret:' '-previous-secret[secret while rotating]:secret:' '-header[value of the signature]:value:' '-id[value of webhook-id]:id:' \
        '-timestamp[value of webhook-timestamp]:seconds:'
    ;;
esac
