package voice;

/// Who is on the line, as far as it is known. `call` is the call's id, `room` its room's name, and
/// `roomSid` the room's own id at LiveKit: another room may have the same name later. `phone` is
/// the other party's number, `to` the number that was called, `direction` is `inbound` or
/// `outbound`. `phone`, `to` and `sipCallId` may be null.
public record Party(String call, String room, String roomSid, String phone, String to,
                    String direction, String sipCallId) {}
