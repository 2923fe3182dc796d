"""What the words of the page mean, on the page."""

from __future__ import annotations


def how_to_read(tolerance: float) -> str:
    """Return the section; tolerance: of realised means, up to which arms count as matched."""
    return f"""<section><h2>How to read this</h2><ul>
<li>An <b>event</b> is one cut of a text's cache: tokens are evicted until the size that the mechanism's cadence asks for.</li>
<li>A <b>budget</b> is a number of tokens per layer and KV head that decode steps attend to. A plain number is the mean over
the steps after the first event of a text; <i>nominal</i> is the size right after an event, <i>peak</i> the largest size, and
<i>in bytes</i> the mean bytes of that many tokens in full precision.</li>
<li>The <b>mean cache</b> is the mean over all decode steps, also those before the first event, when the cache is still
filling. Short texts therefore stay below the budget. The <b>steady mean</b> counts only the steps after the first event.</li>
<li>An arm is <b>unmatched</b> if its mean cache is more than {100 * tolerance:g} % larger or smaller than the median of the
arms with the same model, task and budget. It used another amount of memory, so its accuracy cannot be compared with theirs.
An arm without a budget is a <b>reference</b>: it shows what is reached if no token is evicted. One that evicts without a
budget, as its cache follows from the text, is unmatched.</li>
<li>Arms of one model and task are shown on the <b>problems</b> that all of them have; the heading says how many these are.
<b>Identical texts</b> to another arm mean that every text of the two is equal: whatever sets them apart did nothing here.</li>
<li><b>Prompt kept</b> is the share of the prompt's tokens that the cache still held at the end of a text: in one KV head,
averaged over all, and in at least one head of a layer, averaged over layers. Much of what sets scorings apart is this share, so
read an accuracy beside it. An arm that cut only a few texts shows no harm, and proves little.</li>
<li><b>Accuracy</b> counts the strict reading of a text, which takes an answer only where the task asks for it, such as the
last box; the <i>lenient</i> reading also takes a final-answer phrase or the last number. A text without an answer counts as
wrong. <i>Accuracy if extracted</i> leaves such texts out, so it favours arms that often give no answer.</li>
<li><b>Intervals</b> cover 95 %. They are Wilson's for one text per problem and a bootstrap over problems for several.
Overlapping intervals do not show that two arms are equal: the arms ran on the same problems, and only a paired test uses
that.</li>
<li><b>Held</b> bytes are those that the stored tokens need, not those that are reserved. <b>Auxiliary</b> bytes are what the
mechanism remembers beside them.</li>
<li>No <b>speed</b> is shown: the tokens per second of a sweep say how busy its machine was. To compare the speed of mechanisms,
use <code>designspace bench</code>.</li>
</ul></section>"""
