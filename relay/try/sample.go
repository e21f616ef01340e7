package try

// samples are the data of an event of each type of the catalogue, for who sends one without data of his own. Those of the
// documentation of Realtor Bot are word for word as it has them; it shows no other type, so the rest are ours and say so.
var samples = map[string]string{
	"lead.created": `{"leadId":"lead_xyz789","firstName":"John","lastName":"Doe","email":"john@example.com","phone":"+1234567890","source":"website_form","score":75}`,
	"appointment.scheduled": `{"appointmentId":"appt_123","contactId":"contact_456","propertyId":"prop_789","date":"2024-01-20","time":"14:00",` +
		`"duration":60,"type":"showing"}`,
	"test": `{"message":"This is a test webhook"}`,

	"bot.created":             `{` + ours + `"botId":"bot_123","name":"Website assistant","createdBy":"user_456"}`,
	"bot.updated":             `{` + ours + `"botId":"bot_123","changes":["greeting","businessHours"]}`,
	"bot.activated":           `{` + ours + `"botId":"bot_123","channel":"website"}`,
	"bot.deactivated":         `{` + ours + `"botId":"bot_123","channel":"website","reason":"paused by user_456"}`,
	"conversation.started":    `{` + ours + `"conversationId":"conv_123","botId":"bot_123","channel":"website","contactId":"contact_456"}`,
	"conversation.message":    `{` + ours + `"conversationId":"conv_123","messageId":"msg_789","from":"contact","text":"Is the house on Elm Street still for sale?"}`,
	"conversation.ended":      `{` + ours + `"conversationId":"conv_123","messages":12,"duration":340,"outcome":"lead_created"}`,
	"lead.qualified":          `{` + ours + `"leadId":"lead_xyz789","budget":450000,"currency":"USD","timeline":"3 months","qualifiedBy":"bot_123"}`,
	"lead.scored":             `{` + ours + `"leadId":"lead_xyz789","score":82,"previousScore":75}`,
	"appointment.rescheduled": `{` + ours + `"appointmentId":"appt_123","date":"2024-01-21","time":"10:30","previousDate":"2024-01-20","previousTime":"14:00"}`,
	"appointment.cancelled":   `{` + ours + `"appointmentId":"appt_123","cancelledBy":"contact_456","reason":"bought elsewhere"}`,
	"appointment.completed":   `{` + ours + `"appointmentId":"appt_123","contactId":"contact_456","notes":"wants a second showing"}`,
	"email.received":          `{` + ours + `"emailId":"email_123","from":"john@example.com","to":"agent@example.com","subject":"The house on Elm Street"}`,
	"email.sent":              `{` + ours + `"emailId":"email_124","from":"agent@example.com","to":"john@example.com","subject":"Your appointment"}`,
	"email.opened":            `{` + ours + `"emailId":"email_124","contactId":"contact_456","opens":1}`,
	"email.clicked":           `{` + ours + `"emailId":"email_124","contactId":"contact_456","url":"https://example.com/listings/789"}`,
}

// ours is the first member of data that no documentation shows.
const ours = `"sample":"made by the relay: the documentation shows no event of this type",`
