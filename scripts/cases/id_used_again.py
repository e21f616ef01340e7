"""An id that is used again after its window hides nothing: the failed delivery of the first event is in its story and is replayed by its id. id_used_again.py [--control]

With --control the second event has an id of its own."""

import time

import ground
from ground import Receiver, Relay, promise


def case():
    receiver, failing = Receiver(), [True]
    receiver.answers["/x"] = lambda _: 500 if failing[0] else 200
    relay = Relay(ground.folder + "/data", [("x", receiver.url("/x"), "retry = []")], 'dedup_window = "1m"')
    relay.must_start()
    promise(relay.post('{"id":"a","type":"lead.created","data":{"n":1}}')[0] == 200, "the event is refused")
    relay.must_hold("x", "before", failed=1)
    time.sleep(61.5)
    failing[0] = False
    status, answer = relay.post('{"id":"%s","type":"lead.created","data":{"n":2}}' % ("b" if ground.CONTROL else "a"))
    promise(status == 200 and answer["status"] == "accepted", "after the window the id is answered %d, %s" % (status, answer))
    relay.must_hold("x", "the second one", pending=0, retrying=0, failed=1)
    failed = relay.must("GET", "/endpoints/x/failed")["deliveries"]
    promise([one["id"] for one in failed] == ["a"], "the failed list has %s" % failed)
    if not ground.CONTROL:
        story = relay.must("GET", "/events/a")
        states = [one["deliveries"][0]["state"] for one in [story] + story.get("earlier", [])]
        promise(states == ["delivered", "failed"], "the story of the id tells of %s" % states)
    replay = relay.must("POST", "/endpoints/x/replay", '{"ids": ["a"]}')
    relay.must_hold("x", "after the replay %s" % replay, failed=0)
    return "the failed delivery of the first event was replayed by its id"


ground.main(case)
