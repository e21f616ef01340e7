package config

import (
	"slices"
	"strings"
)

// AlertPrefix begins the types of the relay's own alerts; no custom type may have it.
const AlertPrefix = "relay."

// maxType is the longest event type in bytes.
const maxType = 128

// TypeForm says which texts IsType takes. typePattern is a regular expression of them, groupPattern of their groups.
const (
	TypeForm     = "1-128 of A-Z a-z 0-9 . _ - : /"
	typePattern  = `^[A-Za-z0-9._:/-]{1,128}$`
	groupPattern = `^[A-Za-z0-9._:/-]{1,126}\.\*$`
)

// catalogue is what Realtor Bot's documentation lists, and its test event.
var catalogue = []string{
	"bot.created", "bot.updated", "bot.activated", "bot.deactivated",
	"conversation.started", "conversation.message", "conversation.ended",
	"lead.created", "lead.qualified", "lead.scored",
	"appointment.scheduled", "appointment.rescheduled", "appointment.cancelled", "appointment.completed",
	"email.received", "email.sent", "email.opened", "email.clicked",
	"test",
}

// alerts are the events that the relay raises about itself. A subscription has to name them: "*" leaves them out.
var alerts = []string{
	AlertEndpointDown, AlertEndpointRecovered, AlertEndpointPaused, AlertEndpointResumed, AlertEndpointLimited,
	AlertEndpointLagging, AlertEndpointCaughtUp, AlertEndpointOffline, AlertEndpointOnline,
	AlertEndpointFlapping, AlertEndpointSteady, AlertDeliveryFailed,
	AlertDiskLow, AlertDiskOK, AlertCertificateExpiring, AlertCertificateRenewed,
}

// The alerts, each by its type.
const (
	AlertEndpointDown        = "relay.endpoint.down"
	AlertEndpointRecovered   = "relay.endpoint.recovered"
	AlertEndpointPaused      = "relay.endpoint.paused"
	AlertEndpointResumed     = "relay.endpoint.resumed"
	AlertEndpointLimited     = "relay.endpoint.limited"
	AlertEndpointLagging     = "relay.endpoint.lagging"
	AlertEndpointCaughtUp    = "relay.endpoint.caught_up"
	AlertEndpointOffline     = "relay.endpoint.offline"
	AlertEndpointOnline      = "relay.endpoint.online"
	AlertEndpointFlapping    = "relay.endpoint.flapping"
	AlertEndpointSteady      = "relay.endpoint.steady"
	AlertDeliveryFailed      = "relay.delivery.failed"
	AlertDiskLow             = "relay.disk.low"
	AlertDiskOK              = "relay.disk.ok"
	AlertCertificateExpiring = "relay.certificate.expiring"
	AlertCertificateRenewed  = "relay.certificate.renewed"
)

// Alerts lists the types of the relay's own alerts. The caller owns the slice.
func Alerts() []string { return slices.Clone(alerts) }

// TakesAlerts reports whether the endpoint subscribes to any of the relay's own alerts.
func (e *Endpoint) TakesAlerts() bool { return slices.ContainsFunc(alerts, e.Subscribes) }

// Types lists Realtor Bot's event types and "test", in the order of its documentation, without custom types and
// without the relay's own alerts. The caller owns the slice.
func Types() []string { return slices.Clone(catalogue) }

// IsType reports whether a text has the form of an event type.
func IsType[T string | []byte](text T) bool {
	for i := range len(text) {
		switch c := text[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '.', c == '_', c == '-', c == ':', c == '/':
		default:
			return false
		}
	}
	return len(text) > 0 && len(text) <= maxType
}

// IsTypePattern reports whether a text has the form of a pattern of event types: a type, "group.*" or "*".
func IsTypePattern(text string) bool {
	group, isGroup := strings.CutSuffix(text, ".*")
	return text == "*" || IsType(text) || isGroup && len(text) <= maxType && IsType(group)
}

// checkCustom says what is wrong with an element of events.custom, or "".
func checkCustom(eventType string) string {
	if strings.HasPrefix(eventType, AlertPrefix) {
		return "begins with " + AlertPrefix + ", which is for the relay's own alerts"
	}
	if !IsType(eventType) {
		return "must be " + TypeForm
	}
	return ""
}

// checkSubscription says what is wrong with an element of an endpoint's events, or "". known are all types that can
// be subscribed to.
func checkSubscription(pattern string, known []string) string {
	if pattern == "*" {
		return ""
	}
	if strings.Contains(pattern, "*") && !IsTypePattern(pattern) {
		return `must be a type, "group.*" or "*": a star stands alone or for all that follows a dot` + suggestType(pattern, known)
	}
	for _, eventType := range known {
		if matches(pattern, eventType) {
			return ""
		}
	}
	if strings.HasSuffix(pattern, "*") {
		return "matches no type of the catalogue or of events.custom" + suggestType(pattern, known)
	}
	return "is no type of the catalogue or of events.custom" + suggestType(pattern, known)
}

// checkKnown is checkSubscription with the types that the file being read knows.
func checkKnown(t *table, pattern string) string { return checkSubscription(pattern, t.types) }

// groups are the patterns of groups that have some of the types, in their order.
func groups(types []string) (patterns []string) {
	for _, eventType := range types {
		if dot := strings.IndexByte(eventType, '.'); dot > 0 && !slices.Contains(patterns, eventType[:dot]+".*") {
			patterns = append(patterns, eventType[:dot]+".*")
		}
	}
	return patterns
}

// suggestType always has a suggestion: a subscription is chosen from a list that the operator may not have at hand.
func suggestType(pattern string, known []string) string {
	candidates := known
	if strings.Contains(pattern, "*") {
		candidates = groups(known)
	}
	best, _ := nearest(pattern, candidates)
	return `; did you mean "` + best + `"?`
}

// nearest finds the candidate with the smallest edit distance, the first of equals, without regard to case.
func nearest(text string, candidates []string) (best string, distance int) {
	text = clip(text) // what goes on for longer is near nothing, and the distance costs length times length
	for i, candidate := range candidates {
		if d := editDistance(strings.ToLower(text), strings.ToLower(candidate)); i == 0 || d < distance {
			best, distance = candidate, d
		}
	}
	return best, distance
}

// suggest is "; did you mean …?" when a candidate is near enough to be a slip of the pen, else the list of them all.
func suggest(text string, candidates []string) string {
	best, distance := nearest(text, candidates)
	if best != "" && distance <= 1+len(best)/4 {
		return "; did you mean " + best + "?"
	}
	return "; known here: " + strings.Join(candidates, ", ")
}

// editDistance counts insertions, deletions, replacements and swaps of neighbours that turn a into b, in bytes.
func editDistance(a, b string) int {
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}
