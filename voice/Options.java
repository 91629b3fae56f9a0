package voice;

import module java.base;

/// What is set for all calls. `trunk` is LiveKit's outbound SIP trunk, or "" for none. On it, the
/// agent calls only numbers that begin with one of `prefixes` (`+1`). The agent can transfer a
/// caller to one of `destinations`, which have names: `sales` -> `tel:+15551234567`. When the model
/// is lost, the caller is transferred to the destination `support`, where there is one. When a
/// caller has said nothing for `silence`, the agent asks whether they are there. No call is longer
/// than `longest`. `numbers` reads phone numbers, those of one country also without its code.
///
/// It is a file of its own, because Agent names it: when Java starts from source, it compiles the
/// whole file of each class that it meets.
public record Options(String trunk, List<String> prefixes, Map<String, String> destinations,
                      Duration silence, Duration longest, Numbers numbers) {

    /// May the agent call this number? `number` is what would be dialled: it was read already.
    public boolean mayCall(String number) {
        return Numbers.callable(number) && prefixes.stream().anyMatch(number::startsWith);
    }
}
