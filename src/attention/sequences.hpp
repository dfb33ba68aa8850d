// attend_jvp and attend_backward_jvp where options.sequences says that there are several in the one batch entry.
// Private.
#pragma once
#include "attune/attention/attend_jvp.hpp"

namespace attune::engine {

void jvp_sequences(const AttendInputs&, const AttendInputs& tangents, const AttendJvp&, const AttendOptions&);
void backward_jvp_sequences(const AttendInputs&, const AttendInputs& tangents, const AttendUpstream&,
                            const AttendUpstream& upstream_tangents, const AttendBackwardJvp&, const AttendOptions&);

}  // namespace attune::engine
