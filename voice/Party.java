package voice;

/// Who is on the line, as far as it is known. `call` is the call's id, and `room` is its room's
/// name. `roomSid` is the room's own id at LiveKit, because another room may have the same name
/// later. `phone` is the other party's number, and `to` is the number that was called. `direction`
/// is `inbound` or `outbound`. `sipCallId` is the trunk's id of the telephone call, and `sipId` is
/// LiveKit's. `phone`, `to`, `sipCallId` and `sipId` may be null.
public record Party(String call, String room, String roomSid, String phone, String to,
                    String direction, String sipCallId, String sipId) {}
