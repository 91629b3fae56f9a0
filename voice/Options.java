package voice;

import module java.base;

/// What is set for all calls. `trunk` is LiveKit's outbound SIP trunk, or "" for none. The agent
/// can transfer a caller to one of `destinations`, which have names: `sales` -> `tel:+15551234567`.
/// A caller who has lost the model gets `support`, if that is one of them. After `silence` a silent
/// caller is asked whether they are there. No call is longer than `longest`.
///
/// It is a file of its own because Agent names it at once, and a start from source compiles whole
/// files.
public record Options(String trunk, Map<String, String> destinations, Duration silence,
                      Duration longest) {}
