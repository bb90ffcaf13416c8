# The simulator with planted faults: raft's own objects once more, with the questions that plant them.
$(B)/canary/%.o: src/raft/%.c | build/doors/raft/.made
	@mkdir -p $(@D) && $(CC) $(CFLAGS) -DRAFT_CANARY -Ibuild/doors/raft -c $< -o $@
$(B)/t/sim/raft_canary.o: TCFLAGS += -DRAFT_CANARY
$(B)/sim/raft_canary: $(B)/t/sim/raft_canary.o $(patsubst tests/%.c,$(B)/t/%.o,$(wildcard tests/sim/lib/*.c)) \
    $(patsubst src/raft/%.c,$(B)/canary/%.o,$(wildcard src/raft/*.c)) $(LIBS)
	@mkdir -p $(@D) && $(CXX) $(LDFLAGS) -o $@ $(filter %.o,$^) $(ALLLIBS)
-include $(wildcard $(B)/canary/*.d)
